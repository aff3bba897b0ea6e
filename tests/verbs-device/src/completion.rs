//! Completion channels and completion queues.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ibverbs_dl::{ibv_comp_channel, ibv_context, ibv_cq, ibv_wc, ibv_wc_status};

use crate::acknowledgement::Acknowledgement;
use crate::context::Adapter;
use crate::counters::Counter;
use crate::errno;
use crate::events::Events;
use crate::port::AsyncEvent;
use crate::send_queue::SendQueue;

#[repr(C)]
struct Channel {
    ibv: ibv_comp_channel,
    events: Arc<Events<CqEvent>>,
    users: AtomicUsize,
}

/// Says that the queue got a completion.
struct CqEvent(*mut ibv_cq);

// SAFETY: a name, until ibv_get_cq_event's caller follows it.
unsafe impl Send for CqEvent {}

#[repr(C)]
struct Cq {
    ibv: ibv_cq,
    queue: Arc<CompletionQueue>,
}

/// A completion queue.
pub(crate) struct CompletionQueue {
    ibv: AtomicPtr<ibv_cq>,
    events: Option<Arc<Events<CqEvent>>>,
    state: Mutex<State>,
    comp_events: Acknowledgement,
    pub(crate) async_events: Acknowledgement,
    /// How many queue pairs complete here.
    pub(crate) users: AtomicUsize,
}

struct State {
    entries: VecDeque<Entry>,
    capacity: usize,
    armed: Armed,
    overrun: bool,
}

struct Entry {
    wc: ibv_wc,
    queue: Arc<SendQueue>,
    /// How many requests of the send queue are done with once this is polled.
    freed: u64,
}

/// Which completions make an event.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Armed {
    No,
    /// Those that a sender solicited, of which a send queue has none, and errors.
    Solicited,
    Any,
}

impl CompletionQueue {
    /// That behind a handle.
    ///
    /// # Safety
    ///
    /// `ibv_create_cq` made it, and it is not destroyed.
    pub(crate) unsafe fn of<'a>(cq: *mut ibv_cq) -> &'a Arc<Self> {
        // SAFETY: the caller's.
        unsafe { &(*cq.cast::<Cq>()).queue }
    }

    /// Adds a completion. False if there is no room, which is the end of the queue.
    pub(crate) fn add(
        &self,
        adapter: &Adapter,
        queue: &Arc<SendQueue>,
        wc: ibv_wc,
        freed: u64,
    ) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.overrun || state.entries.len() == state.capacity {
            if !state.overrun {
                state.overrun = true;
                adapter.counters.add(Counter::CqOverruns, 1);
                adapter.events.push(AsyncEvent::CqError(self.ibv.load(Ordering::Acquire)));
            }
            return false;
        }
        let failed = wc.status != ibv_wc_status::IBV_WC_SUCCESS;
        adapter.counters.add(Counter::Completions, 1);
        if failed {
            adapter.counters.add(Counter::Errors, 1);
        }
        state.entries.push_back(Entry { wc, queue: Arc::clone(queue), freed });
        if state.armed == Armed::Any || state.armed == Armed::Solicited && failed {
            state.armed = Armed::No;
            if let Some(events) = &self.events {
                adapter.counters.add(Counter::CqEvents, 1);
                events.push(CqEvent(self.ibv.load(Ordering::Acquire)));
            }
        }
        true
    }

    /// Forgets the completions of a send queue that is reset or destroyed.
    pub(crate) fn forget(&self, queue: &Arc<SendQueue>) {
        self.state.lock().unwrap().entries.retain(|entry| !Arc::ptr_eq(&entry.queue, queue));
    }
}

pub(crate) unsafe extern "C" fn poll_cq(cq: *mut ibv_cq, entries: c_int, wc: *mut ibv_wc) -> c_int {
    // SAFETY: the caller's.
    let queue = unsafe { CompletionQueue::of(cq) };
    let mut state = queue.state.lock().unwrap();
    let mut polled = 0;
    while polled < entries
        && let Some(entry) = state.entries.pop_front()
    {
        entry.queue.free(entry.freed);
        // SAFETY: the caller has room for `entries` completions.
        unsafe { wc.add(polled as usize).write(entry.wc) };
        polled += 1;
    }
    polled
}

pub(crate) unsafe extern "C" fn req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: the caller's.
    let queue = unsafe { CompletionQueue::of(cq) };
    let armed = if solicited_only == 0 { Armed::Any } else { Armed::Solicited };
    let mut state = queue.state.lock().unwrap();
    if armed > state.armed {
        state.armed = armed;
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    let events = match Events::new() {
        Ok(events) => Arc::new(events),
        Err(error) => return errno::null(errno::of(&error)),
    };
    adapter.counters.add(Counter::ChannelsAlive, 1);
    let ibv = ibv_comp_channel { context, fd: events.fd(), refcnt: 0 };
    Box::into_raw(Box::new(Channel { ibv, events, users: AtomicUsize::new(0) })).cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int {
    let channel = channel.cast::<Channel>();
    // SAFETY: the caller's: ibv_create_comp_channel made it, and it is used no more.
    unsafe {
        if (*channel).users.load(Ordering::Acquire) > 0 {
            return libc::EBUSY;
        }
        Adapter::of((*channel).ibv.context).counters.add(Counter::ChannelsAlive, -1);
        drop(Box::from_raw(channel));
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_create_cq(
    context: *mut ibv_context,
    cqe: c_int,
    cq_context: *mut c_void,
    channel: *mut ibv_comp_channel,
    comp_vector: c_int,
) -> *mut ibv_cq {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    if cqe <= 0 || cqe.cast_unsigned() > adapter.settings.max_cqe || comp_vector != 0 {
        return errno::null(libc::EINVAL);
    }
    // mlx5 makes room for a power of two, and keeps one entry.
    let capacity = (cqe as usize + 1).next_power_of_two() - 1;
    // SAFETY: the caller's: null, or made by ibv_create_comp_channel.
    let events = unsafe { channel.cast::<Channel>().as_ref() }.map(|channel| {
        channel.users.fetch_add(1, Ordering::AcqRel);
        Arc::clone(&channel.events)
    });
    let entries = VecDeque::with_capacity(capacity);
    let queue = Arc::new(CompletionQueue {
        ibv: AtomicPtr::default(),
        events,
        state: Mutex::new(State { entries, capacity, armed: Armed::No, overrun: false }),
        comp_events: Acknowledgement::default(),
        async_events: Acknowledgement::default(),
        users: AtomicUsize::new(0),
    });
    let ibv = ibv_cq {
        context,
        channel,
        cq_context,
        handle: adapter.next_handle(),
        // Bounded by max_cqe, or twice that.
        cqe: capacity as c_int,
        ..ibv_cq::default()
    };
    let cq = Box::into_raw(Box::new(Cq { ibv, queue: Arc::clone(&queue) })).cast();
    queue.ibv.store(cq, Ordering::Release);
    adapter.counters.add(Counter::CqsAlive, 1);
    cq
}

/// Waits for the acknowledgement of every event that was handed out.
#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_destroy_cq(cq: *mut ibv_cq) -> c_int {
    let inner = cq.cast::<Cq>();
    // SAFETY: the caller's: ibv_create_cq made it, and it is used no more.
    unsafe {
        let queue = &(*inner).queue;
        if queue.users.load(Ordering::Acquire) > 0 {
            return libc::EBUSY;
        }
        let adapter = Adapter::of((*inner).ibv.context);
        adapter.events.forget(|event| *event == AsyncEvent::CqError(cq));
        if let Some(events) = &queue.events {
            events.forget(|event| event.0 == cq);
        }
        queue.comp_events.wait();
        queue.async_events.wait();
        if let Some(channel) = (*inner).ibv.channel.cast::<Channel>().as_ref() {
            channel.users.fetch_sub(1, Ordering::AcqRel);
        }
        adapter.counters.add(Counter::CqsAlive, -1);
        drop(Box::from_raw(inner));
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_get_cq_event(
    channel: *mut ibv_comp_channel,
    cq: *mut *mut ibv_cq,
    cq_context: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's; destroying a queue forgets its events.
    unsafe {
        match (*channel.cast::<Channel>()).events.take() {
            Ok(CqEvent(about)) => {
                CompletionQueue::of(about).comp_events.hand_out();
                cq.write(about);
                cq_context.write((*about).cq_context);
                0
            }
            Err(error) => errno::minus_one(errno::of(&error)),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_ack_cq_events(cq: *mut ibv_cq, events: c_uint) {
    // SAFETY: the caller's.
    unsafe { CompletionQueue::of(cq).comp_events.acknowledge(events) };
}
