//! The device's only port, its GIDs, and asynchronous events.

use std::ffi::c_int;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ibverbs_dl::{
    IBV_EVENT_CQ_ERR, IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR, IBV_EVENT_QP_FATAL,
    IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2, IBV_LINK_LAYER_ETHERNET, ibv_async_event,
    ibv_async_event__bindgen_ty_1, ibv_context, ibv_cq, ibv_event_type, ibv_gid, ibv_gid_entry,
    ibv_mtu, ibv_port_attr, ibv_port_state, ibv_qp,
};

use crate::completion::CompletionQueue;
use crate::context::Adapter;
use crate::errno;
use crate::events::Events;
use crate::interface::Interface;
use crate::send_queue::SendQueue;

/// Whether the port is up, as far as the data path knows.
#[derive(Default)]
pub(crate) struct Port {
    /// A fault keeps it down.
    forced_down: AtomicBool,
    back_at: Mutex<Option<Instant>>,
    /// The last frame found the interface down.
    lost: AtomicBool,
}

impl Port {
    /// Takes the port down, for a time or for good.
    pub(crate) fn force_down(&self, time: Option<Duration>, events: &Events<AsyncEvent>) {
        *self.back_at.lock().unwrap() = time.map(|time| Instant::now() + time);
        self.forced_down.store(true, Ordering::Relaxed);
        events.push(AsyncEvent::Port(IBV_EVENT_PORT_ERR));
    }

    /// Brings the port back if its time has come, and says when it will have come.
    pub(crate) fn bring_back(&self, events: &Events<AsyncEvent>) -> Option<Instant> {
        let mut back_at = self.back_at.lock().unwrap();
        if back_at.is_some_and(|at| at <= Instant::now()) {
            *back_at = None;
            self.forced_down.store(false, Ordering::Relaxed);
            events.push(AsyncEvent::Port(IBV_EVENT_PORT_ACTIVE));
        }
        *back_at
    }

    pub(crate) fn is_forced_down(&self) -> bool {
        self.forced_down.load(Ordering::Relaxed)
    }

    /// Books whether the interface took a frame.
    pub(crate) fn observe(&self, up: bool, events: &Events<AsyncEvent>) {
        if self.lost.swap(!up, Ordering::Relaxed) == up {
            events.push(AsyncEvent::Port(if up {
                IBV_EVENT_PORT_ACTIVE
            } else {
                IBV_EVENT_PORT_ERR
            }));
        }
    }
}

/// An event that concerns no request.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum AsyncEvent {
    Port(ibv_event_type),
    CqError(*mut ibv_cq),
    QpFatal(*mut ibv_qp),
}

// SAFETY: the pointers are names here; whoever follows them owes what the verbs' callers owe.
unsafe impl Send for AsyncEvent {}

impl AsyncEvent {
    /// # Safety
    ///
    /// The object lives: destroying it forgets its events.
    pub(crate) unsafe fn hand_out(self) -> ibv_async_event {
        // SAFETY: the caller's.
        unsafe {
            let (element, event_type) = match self {
                Self::Port(event) => (ibv_async_event__bindgen_ty_1 { port_num: PORT }, event),
                Self::CqError(cq) => {
                    CompletionQueue::of(cq).async_events.hand_out();
                    (ibv_async_event__bindgen_ty_1 { cq }, IBV_EVENT_CQ_ERR)
                }
                Self::QpFatal(qp) => {
                    SendQueue::of(qp).async_events.hand_out();
                    (ibv_async_event__bindgen_ty_1 { qp }, IBV_EVENT_QP_FATAL)
                }
            };
            ibv_async_event { element, event_type }
        }
    }

    /// # Safety
    ///
    /// As for [`Self::hand_out`], which made the event.
    pub(crate) unsafe fn acknowledge(event: &ibv_async_event) {
        // SAFETY: the type says which element it is; the rest is the caller's.
        unsafe {
            match event.event_type {
                IBV_EVENT_CQ_ERR => {
                    CompletionQueue::of(event.element.cq).async_events.acknowledge(1);
                }
                IBV_EVENT_QP_FATAL => {
                    SendQueue::of(event.element.qp).async_events.acknowledge(1);
                }
                _ => {}
            }
        }
    }
}

pub(crate) unsafe extern "C" fn query_port(
    context: *mut ibv_context,
    number: u8,
    attr: *mut ibv_port_attr,
    size: usize,
) -> c_int {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    if c_int::from(number) != PORT {
        return libc::EINVAL;
    }
    let answer = match Interface::query(&adapter.interface) {
        Ok(interface) => attributes(&interface, !adapter.port.is_forced_down()),
        Err(error) => return errno::of(&error),
    };
    let size = size.min(size_of::<ibv_port_attr>());
    // SAFETY: the caller has room for `size` bytes, and knows the fields that begin there.
    unsafe { ptr::copy_nonoverlapping((&raw const answer).cast::<u8>(), attr.cast(), size) };
    0
}

fn attributes(interface: &Interface, up: bool) -> ibv_port_attr {
    let up = up && interface.running;
    ibv_port_attr {
        state: if up { ibv_port_state::IBV_PORT_ACTIVE } else { ibv_port_state::IBV_PORT_DOWN },
        max_mtu: ib_mtu(u32::MAX),
        active_mtu: ib_mtu(interface.mtu),
        gid_tbl_len: GID_TABLE,
        max_msg_sz: 1 << 30,
        pkey_tbl_len: 1,
        active_width: WIDTH_4X,
        active_speed: SPEED_EDR,
        phys_state: if up { PHYS_LINK_UP } else { PHYS_DISABLED },
        link_layer: IBV_LINK_LAYER_ETHERNET as u8,
        ..ibv_port_attr::default()
    }
}

/// The largest InfiniBand MTU, which is a power of two from 256 to 4096, that fits.
fn ib_mtu(mtu: u32) -> ibv_mtu {
    (1..=5).rev().find(|code| 128_u32 << code <= mtu).unwrap_or(1)
}

/// Fills the structure of libibverbs before 1.8, which ends with `flags`.
#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_query_port(
    context: *mut ibv_context,
    number: u8,
    attr: *mut ibv_port_attr,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { query_port(context, number, attr, OLD_PORT_ATTR_SIZE) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_query_gid(
    context: *mut ibv_context,
    port: u8,
    index: c_int,
    gid: *mut ibv_gid,
) -> c_int {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    if c_int::from(port) != PORT || !(0..GID_TABLE).contains(&index) {
        return errno::minus_one(libc::EINVAL);
    }
    // An empty entry reads as zeros.
    let entry = gids(adapter).into_iter().nth(index as usize).unwrap_or_default();
    // SAFETY: the caller's.
    unsafe { gid.write(entry.gid) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _ibv_query_gid_ex(
    context: *mut ibv_context,
    port: u32,
    index: u32,
    entry: *mut ibv_gid_entry,
    flags: u32,
    size: usize,
) -> c_int {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    if port != PORT.cast_unsigned() || index >= GID_TABLE.cast_unsigned() || flags != 0 {
        return libc::EINVAL;
    }
    let Some(found) = gids(adapter).into_iter().nth(index as usize) else { return libc::ENODATA };
    let size = size.min(size_of::<ibv_gid_entry>());
    // SAFETY: the caller has room for `size` bytes.
    unsafe { ptr::copy_nonoverlapping((&raw const found).cast::<u8>(), entry.cast(), size) };
    0
}

/// Returns the number of entries, or a negated errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn _ibv_query_gid_table(
    context: *mut ibv_context,
    entries: *mut ibv_gid_entry,
    max_entries: usize,
    flags: u32,
    size: usize,
) -> isize {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    if flags != 0 || size < size_of::<ibv_gid_entry>() {
        return -(libc::EINVAL as isize);
    }
    let gids = gids(adapter);
    let count = gids.len().min(max_entries);
    for (i, entry) in gids.into_iter().take(count).enumerate() {
        // SAFETY: the caller has room for `max_entries` of `size` bytes each.
        unsafe { entries.wrapping_byte_add(i * size).write(entry) };
    }
    count.cast_signed()
}

/// The valid entries, which are the first of the table.
fn gids(adapter: &Adapter) -> Vec<ibv_gid_entry> {
    let Ok(interface) = Interface::query(&adapter.interface) else { return Vec::new() };
    let types = [IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2];
    let gids = interface.gids();
    let pairs = gids.iter().flat_map(|gid| types.map(|gid_type| (*gid, gid_type)));
    (0..GID_TABLE.cast_unsigned())
        .zip(pairs)
        .map(|(gid_index, (raw, gid_type))| ibv_gid_entry {
            gid: ibv_gid { raw },
            gid_index,
            port_num: PORT.cast_unsigned(),
            gid_type,
            ndev_ifindex: interface.index,
        })
        .collect()
}

/// The number of the only port.
pub(crate) const PORT: c_int = 1;

const GID_TABLE: c_int = 256;
const OLD_PORT_ATTR_SIZE: usize = 48;

/// Codes of the InfiniBand PortInfo attribute: 4 lanes of 25 Gb/s.
const WIDTH_4X: u8 = 2;
const SPEED_EDR: u8 = 32;
const PHYS_LINK_UP: u8 = 5;
const PHYS_DISABLED: u8 = 3;
