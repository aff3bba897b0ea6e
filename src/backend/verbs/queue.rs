//! The queue that sends frames, and the queue that tells when they were.

use std::ffi::c_int;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ibverbs_dl as sys;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::context::Context;
use super::error::{non_null, zero};

/// A queue of completions, with a channel that wakes up who waits for its descriptor.
pub(super) struct CompletionQueue {
    queue: NonNull<sys::ibv_cq>,
    channel: NonNull<sys::ibv_comp_channel>,
    /// Whether it was armed, and no event was taken off the channel since.
    is_armed: bool,
    _context: Arc<Context>,
}

// SAFETY: verbs may be called from any thread; this one is used by its owner alone.
unsafe impl Send for CompletionQueue {}

impl CompletionQueue {
    /// A queue with room for `depth` completions.
    pub(super) fn new(context: &Arc<Context>, depth: u32) -> io::Result<Self> {
        // SAFETY: the context is open.
        let channel = non_null(unsafe { sys::ibv_create_comp_channel(context.as_ptr()) })?;
        // SAFETY: the context and the channel are alive.
        let queue = non_null(unsafe {
            sys::ibv_create_cq(context.as_ptr(), depth as c_int, ptr::null_mut(), channel, 0)
        });
        // ibv_get_cq_event(3) blocks unless this says that it does not.
        // SAFETY: the channel's descriptor is open as long as the channel.
        let fd = unsafe { BorrowedFd::borrow_raw((*channel).fd) };
        let queue = queue.and_then(|queue| {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(|_| queue).map_err(|errno| {
                // SAFETY: created above, used by nothing.
                unsafe { sys::ibv_destroy_cq(queue) };
                errno.into()
            })
        });
        match queue {
            Ok(queue) => Ok(Self {
                // SAFETY: neither is null.
                queue: unsafe { NonNull::new_unchecked(queue) },
                // SAFETY: neither is null.
                channel: unsafe { NonNull::new_unchecked(channel) },
                is_armed: false,
                _context: context.clone(),
            }),
            Err(error) => {
                // SAFETY: created above, used by nothing.
                unsafe { sys::ibv_destroy_comp_channel(channel) };
                Err(error)
            }
        }
    }

    /// Takes completions off the queue, as many as there are and have room, and returns them.
    pub(super) fn poll<'a>(
        &mut self,
        room: &'a mut [sys::ibv_wc],
    ) -> io::Result<&'a [sys::ibv_wc]> {
        // SAFETY: there is room for as many as are asked for.
        let count = unsafe {
            sys::ibv_poll_cq(self.queue.as_ptr(), room.len() as c_int, room.as_mut_ptr())
        };
        // ibv_poll_cq(3): negative if an error occurred, as after an overrun.
        let count =
            usize::try_from(count).map_err(|_| io::Error::other("the queue was overrun"))?;
        Ok(&room[..count])
    }

    /// Has the next completion make the channel's descriptor readable. One that came before does not:
    /// the queue must be polled once more after this.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        if self.is_armed && !self.take_event()? {
            return Ok(());
        }
        // SAFETY: the queue is alive.
        zero(unsafe { sys::ibv_req_notify_cq(self.queue.as_ptr(), 0) })?;
        self.is_armed = true;
        Ok(())
    }

    /// Takes an event off the channel, if there is one: it would have every further wait end at once.
    /// At most one is there, since the queue is armed anew only after it was taken.
    fn take_event(&mut self) -> io::Result<bool> {
        let mut queue = ptr::null_mut();
        let mut user = ptr::null_mut();
        // SAFETY: the channel is alive, and its descriptor does not block; the pointers are valid for
        // the call.
        match zero(unsafe { sys::ibv_get_cq_event(self.channel.as_ptr(), &mut queue, &mut user) }) {
            Ok(()) => {
                // SAFETY: the event is of this queue, the only one of its channel. It is acknowledged at
                // once, since a queue with any that is not cannot be destroyed.
                unsafe { sys::ibv_ack_cq_events(queue, 1) };
                Ok(true)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for CompletionQueue {
    /// The channel's descriptor.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(self.channel.as_ref().fd) }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue pair on it is gone (see `Queues`), and all events are acknowledged.
        let freed = zero(unsafe { sys::ibv_destroy_cq(self.queue.as_ptr()) })
            // SAFETY: the only queue of the channel is gone.
            .and_then(|()| zero(unsafe { sys::ibv_destroy_comp_channel(self.channel.as_ptr()) }));
        if let Err(error) = freed {
            tracing::warn!(%error, "a completion queue could not be destroyed");
        }
    }
}

/// A kind of queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// Sends whole Ethernet frames.
    Raw,
    /// Sends messages to queues.
    Datagram,
    /// Receives messages that carry `key`, up to `depth` of them before they are looked at.
    Receive { depth: u32, key: u32 },
}

/// A queue pair, of which only one half is used.
pub(super) struct QueuePair {
    pair: NonNull<sys::ibv_qp>,
    kind: QueueKind,
    port: u8,
    /// The rate in kb/s and the burst in bytes that the hardware keeps to, if it does.
    rate: Option<(u32, u32)>,
    /// After the pair, which refers to it.
    pub(super) completions: CompletionQueue,
    _context: Arc<Context>,
}

// SAFETY: verbs may be called from any thread; this one is used by its owner alone.
unsafe impl Send for QueuePair {}

impl QueuePair {
    /// Creates a queue for `depth` sends of up to `pieces` pieces each, and makes it ready to send from
    /// `port`.
    pub(super) fn new(
        context: &Arc<Context>,
        port: u8,
        kind: QueueKind,
        depth: u32,
        pieces: u32,
    ) -> io::Result<Self> {
        // Error completions come for work requests that did not ask for one.
        let buffers = if let QueueKind::Receive { depth, .. } = kind { depth } else { 0 };
        let completions = CompletionQueue::new(context, depth + buffers)?;
        let queue = completions.queue.as_ptr();
        // SAFETY: plain data, for which zeros are valid.
        let mut init: sys::ibv_qp_init_attr = unsafe { mem::zeroed() };
        init.send_cq = queue;
        init.recv_cq = queue;
        init.cap.max_send_wr = depth;
        init.cap.max_send_sge = pieces;
        init.cap.max_recv_wr = buffers;
        init.cap.max_recv_sge = buffers.min(1);
        init.qp_type = match kind {
            QueueKind::Raw => sys::ibv_qp_type::IBV_QPT_RAW_PACKET,
            QueueKind::Datagram | QueueKind::Receive { .. } => sys::ibv_qp_type::IBV_QPT_UD,
        };
        // SAFETY: domain and queue are alive, `init` is valid for the call.
        let pair = non_null(unsafe { sys::ibv_create_qp(context.domain(), &mut init) })?;
        let mut pair = Self {
            // SAFETY: not null.
            pair: unsafe { NonNull::new_unchecked(pair) },
            kind,
            port,
            rate: None,
            completions,
            _context: context.clone(),
        };
        pair.start()?;
        Ok(pair)
    }

    fn start(&mut self) -> io::Result<()> {
        use sys::ibv_qp_attr_mask as mask;
        use sys::ibv_qp_state::{IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS};
        // What each kind requires: `qp_state_table` of Linux. Raw packets have no keys and no path.
        let (init, ready) = match self.kind {
            QueueKind::Raw => (mask::IBV_QP_PORT, mask::IBV_QP_STATE),
            QueueKind::Datagram | QueueKind::Receive { .. } => (
                mask::IBV_QP_PORT | mask::IBV_QP_PKEY_INDEX | mask::IBV_QP_QKEY,
                mask::IBV_QP_STATE | mask::IBV_QP_SQ_PSN,
            ),
        };
        self.modify(IBV_QPS_INIT, mask::IBV_QP_STATE | init)?;
        self.modify(IBV_QPS_RTR, mask::IBV_QP_STATE)?;
        self.modify(IBV_QPS_RTS, ready)
    }

    /// Brings a pair that is in error, and whose work requests have all come back, to life again.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.modify(sys::ibv_qp_state::IBV_QPS_RESET, sys::ibv_qp_attr_mask::IBV_QP_STATE)?;
        self.start()?;
        // A queue that leaves the ready state loses its rate (Linux, modify_raw_packet_qp_sq of mlx5).
        self.rate.map_or(Ok(()), |(kbps, burst)| self.limit_rate(kbps, burst))
    }

    /// Stops the pair: what is queued comes back flushed.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.modify(sys::ibv_qp_state::IBV_QPS_ERR, sys::ibv_qp_attr_mask::IBV_QP_STATE)
    }

    fn modify(
        &mut self,
        state: sys::ibv_qp_state::Type,
        mask: sys::ibv_qp_attr_mask,
    ) -> io::Result<()> {
        // SAFETY: plain data, for which zeros are valid.
        let mut attr: sys::ibv_qp_attr = unsafe { mem::zeroed() };
        attr.qp_state = state;
        attr.port_num = self.port;
        attr.qkey = match self.kind {
            QueueKind::Receive { key, .. } => key,
            // The key is in each work request.
            QueueKind::Raw | QueueKind::Datagram => 0,
        };
        // SAFETY: the pair is alive, `attr` is valid for the call.
        zero(unsafe { sys::ibv_modify_qp(self.pair.as_ptr(), &mut attr, mask.0 as c_int) })
    }

    /// Has the hardware keep to a rate, in kb/s on the wire, in bursts of that many bytes if given.
    pub(super) fn limit_rate(&mut self, kbps: u32, burst: u32) -> io::Result<()> {
        // SAFETY: plain data, for which zeros are valid.
        let mut attr: sys::ibv_qp_rate_limit_attr = unsafe { mem::zeroed() };
        attr.rate_limit = kbps;
        attr.max_burst_sz = burst;
        // SAFETY: the pair is alive and ready to send, `attr` is valid for the call.
        zero(unsafe { sys::ibv_modify_qp_rate_limit(self.pair.as_ptr(), &mut attr) })?;
        self.rate = Some((kbps, burst));
        Ok(())
    }

    /// Rings the doorbell: posts a chain of work requests. If not all of it is taken, the error says
    /// why, and comes with the first that was not.
    ///
    /// # Safety
    ///
    /// The chain and its pieces are valid for the call, and the memory that the pieces name stays
    /// registered and unchanged until the completion.
    #[inline]
    pub(super) unsafe fn post(
        &mut self,
        first: *mut sys::ibv_send_wr,
    ) -> Result<(), (*mut sys::ibv_send_wr, c_int)> {
        let mut bad = ptr::null_mut();
        // SAFETY: the pair is alive; the rest is the caller's word.
        match unsafe { sys::ibv_post_send(self.pair.as_ptr(), first, &mut bad) } {
            0 => Ok(()),
            errno => Err((bad, errno.abs())),
        }
    }
}

impl QueuePair {
    /// Its number, by which others find it.
    pub(super) fn number(&self) -> u32 {
        // SAFETY: the pair is alive.
        unsafe { self.pair.as_ref().qp_num }
    }

    /// Takes in what is sent to a multicast group.
    pub(super) fn attach(&mut self, group: Ipv6Addr, lid: u16) -> io::Result<()> {
        let gid = sys::ibv_gid { raw: group.octets() };
        // SAFETY: the pair is alive, `gid` is valid for the call.
        zero(unsafe { sys::ibv_attach_mcast(self.pair.as_ptr(), &gid, lid) })
    }

    /// And no more: a pair that is attached cannot be destroyed.
    pub(super) fn detach(&mut self, group: Ipv6Addr, lid: u16) -> io::Result<()> {
        let gid = sys::ibv_gid { raw: group.octets() };
        // SAFETY: the pair is alive, `gid` is valid for the call.
        zero(unsafe { sys::ibv_detach_mcast(self.pair.as_ptr(), &gid, lid) })
    }

    /// Posts a chain of requests to receive.
    ///
    /// # Safety
    ///
    /// The chain and its pieces are valid for the call, and the memory that the pieces name stays
    /// registered, and is touched by nobody until the completion.
    pub(super) unsafe fn post_receives(&mut self, first: *mut sys::ibv_recv_wr) -> io::Result<()> {
        let mut bad = ptr::null_mut();
        // SAFETY: the pair is alive; the rest is the caller's word.
        zero(unsafe { sys::ibv_post_recv(self.pair.as_ptr(), first, &mut bad) })
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. From here on the device reads nothing.
        if let Err(error) = zero(unsafe { sys::ibv_destroy_qp(self.pair.as_ptr()) }) {
            tracing::warn!(%error, "a queue pair could not be destroyed");
        }
    }
}
