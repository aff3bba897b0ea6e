//! A queue pair with all that belongs to it, driven by hand.

use std::ffi::c_int;
use std::ptr;
use std::time::{Duration, Instant};

use ibverbs_dl::*;

/// A context, protection domain, channel, completion queue, queue pair and memory region.
pub(crate) struct Queue {
    pub(crate) context: *mut ibv_context,
    pub(crate) pd: *mut ibv_pd,
    pub(crate) channel: *mut ibv_comp_channel,
    pub(crate) cq: *mut ibv_cq,
    pub(crate) qp: *mut ibv_qp,
    pub(crate) mr: *mut ibv_mr,
    pub(crate) memory: Box<[u8]>,
    /// What the device made of the capacities asked for.
    pub(crate) cap: ibv_qp_cap,
}

/// A request: its identifier, whether it is signalled, and its entries: offset, length and key.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) wr_id: u64,
    pub(crate) flags: u32,
    pub(crate) sges: Vec<(usize, u32, u32)>,
}

pub(crate) const SIGNALLED: u32 = ibv_send_flags::IBV_SEND_SIGNALED.0;
pub(crate) const IP_CSUM: u32 = ibv_send_flags::IBV_SEND_IP_CSUM.0;

impl Queue {
    /// With room for `max_wr` requests of two entries each, and `cqe` completions; ready to send.
    pub(crate) fn open(max_wr: u32, cqe: c_int) -> Self {
        let mut queue = Self::unready(max_wr, 2, cqe).expect("a queue pair");
        queue.make_ready();
        queue
    }

    /// In the reset state. The errno if there is no queue pair to be had.
    pub(crate) fn unready(max_wr: u32, max_sge: u32, cqe: c_int) -> Result<Self, c_int> {
        // SAFETY: each pointer comes from the verb before, and lives as long as the queue.
        unsafe {
            let list = ibv_get_device_list(ptr::null_mut());
            assert!(!list.is_null(), "no list: errno {}", errno());
            let context = ibv_open_device(*list);
            ibv_free_device_list(list);
            assert!(!context.is_null(), "not opened: errno {}", errno());
            let pd = ibv_alloc_pd(context);
            let channel = ibv_create_comp_channel(context);
            let cq = ibv_create_cq(context, cqe, ptr::without_provenance_mut(77), channel, 0);
            assert!(!cq.is_null(), "no completion queue: errno {}", errno());
            let mut memory: Box<[u8]> = (0..64 * 1024).map(|i| i as u8).collect();
            let mr = ibv_reg_mr(pd, memory.as_mut_ptr().cast(), memory.len(), 0);
            assert!(!mr.is_null(), "not registered: errno {}", errno());
            let mut attr = ibv_qp_init_attr {
                send_cq: cq,
                recv_cq: cq,
                cap: ibv_qp_cap {
                    max_send_wr: max_wr,
                    max_send_sge: max_sge,
                    ..Default::default()
                },
                qp_type: ibv_qp_type::IBV_QPT_RAW_PACKET,
                ..Default::default()
            };
            let qp = ibv_create_qp(pd, &raw mut attr);
            if qp.is_null() {
                return Err(errno());
            }
            Ok(Self { context, pd, channel, cq, qp, mr, memory, cap: attr.cap })
        }
    }

    pub(crate) fn make_ready(&mut self) {
        let port = ibv_qp_attr_mask::IBV_QP_PORT.0;
        assert_eq!(self.modify(ibv_qp_state::IBV_QPS_INIT, port), 0);
        assert_eq!(self.modify(ibv_qp_state::IBV_QPS_RTR, 0), 0);
        assert_eq!(self.modify(ibv_qp_state::IBV_QPS_RTS, 0), 0);
    }

    pub(crate) fn modify(&mut self, state: ibv_qp_state::Type, mask: u32) -> c_int {
        let mut attr = ibv_qp_attr { qp_state: state, port_num: 1, ..Default::default() };
        let mask = (mask | ibv_qp_attr_mask::IBV_QP_STATE.0).cast_signed();
        // SAFETY: the queue pair lives.
        unsafe { ibv_modify_qp(self.qp, &raw mut attr, mask) }
    }

    pub(crate) fn state(&self) -> ibv_qp_state::Type {
        let (mut attr, mut init) = (ibv_qp_attr::default(), ibv_qp_init_attr::default());
        // SAFETY: the queue pair lives.
        assert_eq!(unsafe { ibv_query_qp(self.qp, &raw mut attr, 1, &raw mut init) }, 0);
        attr.qp_state
    }

    /// A request of one entry, of 64 bytes.
    pub(crate) fn request(&self, wr_id: u64, flags: u32) -> Request {
        Request { wr_id, flags, sges: vec![(0, 64, self.lkey())] }
    }

    pub(crate) fn lkey(&self) -> u32 {
        // SAFETY: the region lives.
        unsafe { (*self.mr).lkey }
    }

    /// One doorbell. On failure the error, and how many requests were posted before it.
    pub(crate) fn post(&mut self, requests: &[Request]) -> Result<(), (c_int, usize)> {
        let base = self.memory.as_ptr().addr() as u64;
        let mut sges: Vec<Vec<ibv_sge>> = requests
            .iter()
            .map(|request| {
                let entry = |&(offset, length, lkey)| ibv_sge {
                    addr: base.wrapping_add(offset as u64),
                    length,
                    lkey,
                };
                request.sges.iter().map(entry).collect()
            })
            .collect();
        let mut chain: Vec<ibv_send_wr> = requests
            .iter()
            .zip(&mut sges)
            .map(|(request, sges)| ibv_send_wr {
                wr_id: request.wr_id,
                sg_list: sges.as_mut_ptr(),
                num_sge: sges.len() as c_int,
                opcode: ibv_wr_opcode::IBV_WR_SEND,
                send_flags: request.flags,
                ..Default::default()
            })
            .collect();
        let first = chain.as_mut_ptr();
        for i in 1..chain.len() {
            chain[i - 1].next = first.wrapping_add(i);
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the chain lives as long as the call, and the memory as long as the queue.
        match unsafe { ibv_post_send(self.qp, first, &raw mut bad) } {
            0 => Ok(()),
            // SAFETY: `bad` is one of the chain.
            error => Err((error, unsafe { bad.offset_from(first) } as usize)),
        }
    }

    /// The completions there are now, no more than `most`: identifier and status.
    pub(crate) fn poll(&mut self, most: usize) -> Vec<(u64, ibv_wc_status::Type)> {
        let mut wcs = vec![ibv_wc::default(); most];
        // SAFETY: there is room.
        let polled = unsafe { ibv_poll_cq(self.cq, most as c_int, wcs.as_mut_ptr()) };
        assert!(polled >= 0);
        wcs[..polled as usize].iter().map(|wc| (wc.wr_id, wc.status)).collect()
    }

    /// Polls until there were `count` completions.
    pub(crate) fn poll_until(&mut self, count: usize) -> Vec<(u64, ibv_wc_status::Type)> {
        let give_up = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while all.len() < count {
            assert!(Instant::now() < give_up, "only {all:?}");
            all.extend(self.poll(count - all.len()));
            std::thread::yield_now();
        }
        all
    }

    /// The next event that is not about a completion.
    pub(crate) fn async_event(&mut self) -> ibv_event_type {
        let mut event = ibv_async_event::default();
        // SAFETY: the context lives, and so do the event's objects.
        unsafe {
            assert_eq!(ibv_get_async_event(self.context, &raw mut event), 0);
            ibv_ack_async_event(&raw mut event);
        }
        event.event_type
    }

    /// Destroys everything, in order.
    pub(crate) fn close(self) {
        // SAFETY: each object lives, and is used no more.
        unsafe {
            assert_eq!(ibv_destroy_qp(self.qp), 0);
            assert_eq!(ibv_destroy_cq(self.cq), 0);
            assert_eq!(ibv_destroy_comp_channel(self.channel), 0);
            assert_eq!(ibv_dereg_mr(self.mr), 0);
            assert_eq!(ibv_dealloc_pd(self.pd), 0);
            assert_eq!(ibv_close_device(self.context), 0);
        }
    }
}

pub(crate) fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Whether a descriptor is readable now.
pub(crate) fn is_readable(fd: c_int) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which lives as long as the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}
