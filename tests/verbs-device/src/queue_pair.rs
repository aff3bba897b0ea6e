//! Queue pairs, of which there are raw packet ones.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ibverbs_dl::{
    ibv_context, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_attr_mask, ibv_qp_cap, ibv_qp_init_attr,
    ibv_qp_init_attr_ex, ibv_qp_rate_limit_attr, ibv_qp_state, ibv_qp_type, ibv_recv_wr,
    ibv_send_wr,
};

use crate::completion::CompletionQueue;
use crate::context::Adapter;
use crate::counters::Counter;
use crate::errno;
use crate::link::Link;
use crate::memory::Pd;
use crate::port::{AsyncEvent, PORT};
use crate::send_queue::SendQueue;

#[repr(C)]
struct Qp {
    ibv: ibv_qp,
    queue: Arc<SendQueue>,
}

impl SendQueue {
    /// That of a queue pair.
    ///
    /// # Safety
    ///
    /// `ibv_create_qp` made it, and it is not destroyed.
    pub(crate) unsafe fn of<'a>(qp: *mut ibv_qp) -> &'a Arc<Self> {
        // SAFETY: the caller's.
        unsafe { &(*qp.cast::<Qp>()).queue }
    }
}

/// Does not look behind the plain attributes: where theirs end in padding, the extended ones go on.
#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_create_qp(pd: *mut ibv_pd, attr: *mut ibv_qp_init_attr) -> *mut ibv_qp {
    // SAFETY: the caller's.
    match unsafe { create(pd, &mut *attr) } {
        Ok(qp) => qp,
        Err(error) => errno::null(error),
    }
}

/// Takes the one extension that raw packets need, the protection domain; others are refused.
pub(crate) unsafe extern "C" fn create_qp_ex(
    _context: *mut ibv_context,
    attr: *mut ibv_qp_init_attr_ex,
) -> *mut ibv_qp {
    // SAFETY: the caller's; the extended attributes begin with the plain ones.
    unsafe {
        if (*attr).comp_mask != ibverbs_dl::IBV_QP_INIT_ATTR_PD {
            return errno::null(libc::EOPNOTSUPP);
        }
        ibv_create_qp((*attr).pd, attr.cast())
    }
}

/// # Safety
///
/// As `ibv_create_qp`.
unsafe fn create(pd: *mut ibv_pd, attr: &mut ibv_qp_init_attr) -> Result<*mut ibv_qp, c_int> {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of((*pd).context) };
    let settings = adapter.settings;
    if attr.qp_type != ibv_qp_type::IBV_QPT_RAW_PACKET {
        return Err(libc::EOPNOTSUPP);
    }
    if settings.faults.no_cap_net_raw {
        return Err(libc::EPERM);
    }
    if attr.send_cq.is_null()
        || attr.recv_cq.is_null()
        || attr.cap.max_send_sge > settings.max_sge
        || attr.cap.max_inline_data > 0
    {
        return Err(libc::EINVAL);
    }
    let (max_wr, max_sge) = (attr.cap.max_send_wr, attr.cap.max_send_sge.max(1));
    let capacity = capacity(max_wr, max_sge, settings.max_qp_wr).ok_or(libc::EINVAL)?;
    // The kernel of a packet socket asks for CAP_NET_RAW, as that of a raw packet queue pair does.
    let link = Link::open(adapter).map_err(|error| errno::of(&error))?;
    let number = adapter.next_handle();
    // SAFETY: the caller's.
    let cq = unsafe { Arc::clone(CompletionQueue::of(attr.send_cq)) };
    cq.users.fetch_add(1, Ordering::AcqRel);
    let signal_all = attr.sq_sig_all != 0;
    // SAFETY: the caller's.
    let (context, pd_handle) = unsafe { ((*pd).context, (*pd).handle) };
    let queue =
        Arc::new(SendQueue::new(number, pd_handle, max_sge, capacity, signal_all, link, cq));
    attr.cap = ibv_qp_cap { max_send_wr: capacity, max_send_sge: max_sge, ..ibv_qp_cap::default() };
    let ibv = ibv_qp {
        context,
        qp_context: attr.qp_context,
        pd,
        send_cq: attr.send_cq,
        recv_cq: attr.recv_cq,
        handle: number,
        qp_num: number,
        state: ibv_qp_state::IBV_QPS_RESET,
        qp_type: attr.qp_type,
        ..ibv_qp::default()
    };
    let qp = Box::into_raw(Box::new(Qp { ibv, queue: Arc::clone(&queue) })).cast();
    queue.ibv.store(qp, Ordering::Release);
    // SAFETY: the caller's: ibv_alloc_pd made it.
    unsafe { (*pd.cast::<Pd>()).users.fetch_add(1, Ordering::AcqRel) };
    adapter.counters.add(Counter::QpsAlive, 1);
    Ok(qp)
}

/// How many requests a queue holds, as mlx5 computes it: in basic blocks of 64 bytes, of which a request
/// takes as many as its control and Ethernet segments and 16 bytes for each of `max_sge` need, and the
/// next power of two. None if the device has not got as many blocks.
fn capacity(max_wr: u32, max_sge: u32, max_blocks: u32) -> Option<u32> {
    let blocks = (CONTROL_AND_ETHERNET + max_sge * DATA).div_ceil(BLOCK);
    let all = max_wr.max(1).checked_mul(blocks)?.checked_next_power_of_two()?;
    (all <= max_blocks).then_some(all / blocks)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_destroy_qp(qp: *mut ibv_qp) -> c_int {
    let inner = qp.cast::<Qp>();
    // SAFETY: the caller's: ibv_create_qp made it, and it is used no more.
    unsafe {
        let adapter = Adapter::of((*inner).ibv.context);
        let queue = &(*inner).queue;
        {
            let mut state = queue.quiesce();
            state.phase = ibv_qp_state::IBV_QPS_RESET;
            queue.reset(&mut state);
        }
        adapter.events.forget(|event| *event == AsyncEvent::QpFatal(qp));
        queue.async_events.wait();
        queue.cq.users.fetch_sub(1, Ordering::AcqRel);
        (*(*inner).ibv.pd.cast::<Pd>()).users.fetch_sub(1, Ordering::AcqRel);
        adapter.counters.add(Counter::QpsAlive, -1);
        drop(Box::from_raw(inner));
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_modify_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int {
    // SAFETY: the caller's.
    let (adapter, queue, attr) = unsafe { (Adapter::of((*qp).context), SendQueue::of(qp), &*attr) };
    let mask = mask.cast_unsigned();
    let has = |flag: ibv_qp_attr_mask| mask & flag.0 != 0;
    let mut state = queue.quiesce();
    let from = state.phase;
    if has(ibv_qp_attr_mask::IBV_QP_CUR_STATE) && attr.cur_qp_state != from {
        return libc::EINVAL;
    }
    let to = if has(ibv_qp_attr_mask::IBV_QP_STATE) { attr.qp_state } else { from };
    let known = ibv_qp_attr_mask::IBV_QP_STATE.0 | ibv_qp_attr_mask::IBV_QP_CUR_STATE.0;
    let Some((required, optional)) = transition(from, to) else { return libc::EINVAL };
    if mask & required != required || mask & !(known | required | optional) != 0 {
        return libc::EINVAL;
    }
    if has(ibv_qp_attr_mask::IBV_QP_PORT) && c_int::from(attr.port_num) != PORT {
        return libc::EINVAL;
    }
    if has(ibv_qp_attr_mask::IBV_QP_RATE_LIMIT) {
        if let Err(error) = check_rate(adapter, attr.rate_limit) {
            return error;
        }
        state.rate = attr.rate_limit;
    }
    state.phase = to;
    match to {
        ibv_qp_state::IBV_QPS_RESET => queue.reset(&mut state),
        ibv_qp_state::IBV_QPS_ERR => queue.flush(adapter, &mut state),
        _ => {}
    }
    // SAFETY: the caller's.
    unsafe { (*qp).state = to };
    0
}

/// The attributes that a transition of a raw packet queue pair requires and allows, by the kernel's
/// `qp_state_table`. None if there is no such transition.
fn transition(from: ibv_qp_state::Type, to: ibv_qp_state::Type) -> Option<(u32, u32)> {
    use ibv_qp_state::{
        IBV_QPS_ERR, IBV_QPS_INIT, IBV_QPS_RESET, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQE,
    };
    let rate_limit = ibv_qp_attr_mask::IBV_QP_RATE_LIMIT.0;
    match (from, to) {
        (_, IBV_QPS_RESET | IBV_QPS_ERR) => Some((0, 0)),
        (IBV_QPS_RESET, IBV_QPS_INIT) => Some((ibv_qp_attr_mask::IBV_QP_PORT.0, 0)),
        (IBV_QPS_INIT, IBV_QPS_INIT | IBV_QPS_RTR) | (IBV_QPS_SQE, IBV_QPS_RTS) => Some((0, 0)),
        (IBV_QPS_RTR | IBV_QPS_RTS, IBV_QPS_RTS) => Some((0, rate_limit)),
        _ => None,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_query_qp(
    qp: *mut ibv_qp,
    attr: *mut ibv_qp_attr,
    _mask: c_int,
    init_attr: *mut ibv_qp_init_attr,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        let queue = SendQueue::of(qp);
        let state = queue.lock();
        let cap = ibv_qp_cap {
            max_send_wr: queue.capacity,
            max_send_sge: queue.max_sge,
            ..ibv_qp_cap::default()
        };
        attr.write(ibv_qp_attr {
            qp_state: state.phase,
            cur_qp_state: state.phase,
            cap,
            port_num: PORT as u8,
            rate_limit: state.rate,
            ..ibv_qp_attr::default()
        });
        init_attr.write(ibv_qp_init_attr {
            qp_context: (*qp).qp_context,
            send_cq: (*qp).send_cq,
            recv_cq: (*qp).recv_cq,
            cap,
            qp_type: (*qp).qp_type,
            sq_sig_all: c_int::from(queue.signal_all),
            ..ibv_qp_init_attr::default()
        });
        (*qp).state = state.phase;
    }
    0
}

pub(crate) unsafe extern "C" fn modify_qp_rate_limit(
    qp: *mut ibv_qp,
    attr: *mut ibv_qp_rate_limit_attr,
) -> c_int {
    // SAFETY: the caller's.
    let (adapter, queue, attr) = unsafe { (Adapter::of((*qp).context), SendQueue::of(qp), &*attr) };
    if let Err(error) = check_rate(adapter, attr.rate_limit) {
        return error;
    }
    let shaped = attr.max_burst_sz > 0 || attr.typical_pkt_sz > 0;
    let mut state = queue.quiesce();
    if attr.comp_mask != 0
        || shaped && (attr.rate_limit == 0 || !adapter.settings.burst)
        || state.phase != ibv_qp_state::IBV_QPS_RTS
    {
        return libc::EINVAL;
    }
    state.rate = attr.rate_limit;
    0
}

fn check_rate(adapter: &Adapter, rate: u32) -> Result<(), c_int> {
    match &adapter.settings.rate_limit {
        None => Err(libc::EOPNOTSUPP),
        Some(range) if rate != 0 && !range.contains(&rate) => Err(libc::EINVAL),
        Some(_) => Ok(()),
    }
}

pub(crate) unsafe extern "C" fn post_send(
    qp: *mut ibv_qp,
    wr: *mut ibv_send_wr,
    bad_wr: *mut *mut ibv_send_wr,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        let adapter = Adapter::of((*qp).context);
        match SendQueue::of(qp).post(adapter, wr) {
            Ok(()) => 0,
            Err((error, at)) => {
                bad_wr.write(at);
                error
            }
        }
    }
}

/// There is no room: the device only sends.
pub(crate) unsafe extern "C" fn post_recv(
    _qp: *mut ibv_qp,
    wr: *mut ibv_recv_wr,
    bad_wr: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { bad_wr.write(wr) };
    libc::ENOMEM
}

/// Of a work queue entry of mlx5, in bytes.
const BLOCK: u32 = 64;
const CONTROL_AND_ETHERNET: u32 = 48;
const DATA: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_rounded_up_to_blocks_of_a_power_of_two() {
        for (max_wr, max_sge, expected) in [
            (1, 1, Some(1)),
            (100, 1, Some(128)),
            (100, 2, Some(128)),
            (100, 5, Some(128)),
            (100, 6, Some(170)),
            (32_768, 1, Some(32_768)),
            (16_384, 2, Some(16_384)),
            (16_385, 2, None),
            (32_769, 1, None),
        ] {
            assert_eq!(capacity(max_wr, max_sge, 32_768), expected, "{max_wr} of {max_sge}");
        }
    }
}
