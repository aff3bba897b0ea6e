//! A send queue: the requests of a queue pair from their post to their completion.

use std::ffi::c_int;
use std::mem;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ibverbs_dl::{
    ibv_qp, ibv_qp_state, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc, ibv_wc_opcode,
    ibv_wc_status, ibv_wr_opcode,
};

use crate::acknowledgement::Acknowledgement;
use crate::checksum;
use crate::completion::CompletionQueue;
use crate::context::Adapter;
use crate::counters::Counter;
use crate::link::{Link, gather};
use crate::memory::Regions;
use crate::port::AsyncEvent;

/// The send queue of a queue pair.
pub(crate) struct SendQueue {
    pub(crate) number: u32,
    pub(crate) pd: u32,
    pub(crate) max_sge: u32,
    /// How many requests it holds.
    pub(crate) capacity: u32,
    pub(crate) signal_all: bool,
    pub(crate) link: Link,
    pub(crate) cq: Arc<CompletionQueue>,
    pub(crate) ibv: AtomicPtr<ibv_qp>,
    pub(crate) async_events: Acknowledgement,
    /// How many requests have been posted, executed, and polled (or passed over by a later one that
    /// was polled).
    freed: AtomicU64,
    state: Mutex<State>,
    not_executing: Condvar,
}

/// What a lock guards.
pub(crate) struct State {
    pub(crate) phase: ibv_qp_state::Type,
    /// In kb/s; 0 is none.
    pub(crate) rate: u32,
    ring: Box<[Wqe]>,
    sges: Box<[ibv_sge]>,
    posted: u64,
    executed: u64,
    executing: bool,
    /// When the wire is clear, to a queue that is paced.
    clear_at: Option<Instant>,
}

/// A request in the queue. Its scatter/gather list lies beside the ring.
#[derive(Clone, Copy, Default)]
struct Wqe {
    wr_id: u64,
    /// Counted over the context, where faults want it.
    ordinal: u64,
    num_sge: u32,
    signalled: bool,
    ip_csum: bool,
    /// Not before then; none for at once.
    due: Option<Instant>,
}

/// What became of an attempt to execute requests.
pub(crate) enum Step {
    Ran,
    Due(Instant),
    Idle,
}

/// Memory that an executing thread uses again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    frame: Vec<u8>,
    sges: Vec<ibv_sge>,
}

impl State {
    pub(crate) fn new(capacity: u32, max_sge: u32) -> Self {
        let slots = (capacity as usize).next_power_of_two();
        Self {
            phase: ibv_qp_state::IBV_QPS_RESET,
            rate: 0,
            ring: vec![Wqe::default(); slots].into(),
            sges: vec![ibv_sge::default(); slots * max_sge as usize].into(),
            posted: 0,
            executed: 0,
            executing: false,
            clear_at: None,
        }
    }

    fn slot(&self, request: u64) -> usize {
        // The length is a power of two.
        request as usize & (self.ring.len() - 1)
    }

    fn sges(&self, slot: usize) -> &[ibv_sge] {
        let stride = self.sges.len() / self.ring.len();
        &self.sges[slot * stride..][..self.ring[slot].num_sge as usize]
    }

    fn is_in_error(&self) -> bool {
        matches!(self.phase, ibv_qp_state::IBV_QPS_ERR | ibv_qp_state::IBV_QPS_SQE)
    }
}

impl SendQueue {
    pub(crate) fn new(
        number: u32,
        pd: u32,
        max_sge: u32,
        capacity: u32,
        signal_all: bool,
        link: Link,
        cq: Arc<CompletionQueue>,
    ) -> Self {
        Self {
            number,
            pd,
            max_sge,
            capacity,
            signal_all,
            link,
            cq,
            ibv: AtomicPtr::default(),
            async_events: Acknowledgement::default(),
            freed: AtomicU64::new(0),
            state: Mutex::new(State::new(capacity, max_sge)),
            not_executing: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The state, while nothing is being executed.
    pub(crate) fn quiesce(&self) -> MutexGuard<'_, State> {
        self.not_executing.wait_while(self.lock(), |state| state.executing).unwrap()
    }

    /// Takes over a chain of requests. On an error, the requests before the one it is about are posted.
    ///
    /// # Safety
    ///
    /// `first` and all that it leads to are valid requests.
    pub(crate) unsafe fn post(
        self: &Arc<Self>,
        adapter: &Adapter,
        first: *mut ibv_send_wr,
    ) -> Result<(), (c_int, *mut ibv_send_wr)> {
        adapter.counters.add(Counter::Posts, 1);
        let faults = &adapter.settings.faults;
        if !faults.enomem.is_empty()
            && faults.enomem.contains(&(adapter.posts.fetch_add(1, Ordering::Relaxed) + 1))
        {
            return Err((libc::ENOMEM, first));
        }
        let mut state = self.lock();
        if state.phase != ibv_qp_state::IBV_QPS_RTS && !state.is_in_error() {
            return Err((libc::EINVAL, first));
        }
        let before = state.posted;
        // SAFETY: the caller's.
        let result = unsafe { self.enqueue(adapter, &mut state, first) };
        if state.posted == before {
            return result;
        }
        adapter.counters.add(Counter::Doorbells, 1);
        if state.is_in_error() {
            self.flush(adapter, &mut state);
        } else if adapter.synchronous {
            let mut frame = Vec::new();
            let regions = adapter.regions.read().unwrap();
            while state.executed < state.posted {
                let slot = state.slot(state.executed);
                let status = self.execute(
                    adapter,
                    &regions,
                    &state.ring[slot],
                    state.sges(slot),
                    &mut frame,
                );
                self.finish(adapter, &mut state, status);
            }
        } else {
            drop(state);
            adapter.worker.schedule(self);
        }
        result
    }

    /// # Safety
    ///
    /// As [`Self::post`].
    unsafe fn enqueue(
        &self,
        adapter: &Adapter,
        state: &mut State,
        first: *mut ibv_send_wr,
    ) -> Result<(), (c_int, *mut ibv_send_wr)> {
        let faults = &adapter.settings.faults;
        let now = (!adapter.synchronous).then(Instant::now);
        let (mut sges, mut bytes, mut signalled) = (0, 0, 0);
        let before = state.posted;
        let limit = self.freed.load(Ordering::Acquire) + u64::from(self.capacity);
        let stride = state.sges.len() / state.ring.len();
        let mut result = Ok(());
        let mut next = first;
        // SAFETY: the caller's.
        while let Some(wr) = unsafe { next.as_ref() } {
            if state.posted >= limit {
                result = Err((libc::ENOMEM, next));
                break;
            }
            let has = |flag: ibv_send_flags| wr.send_flags & flag.0 != 0;
            let ip_csum = has(ibv_send_flags::IBV_SEND_IP_CSUM);
            if wr.opcode != ibv_wr_opcode::IBV_WR_SEND
                || has(ibv_send_flags::IBV_SEND_INLINE)
                || ip_csum && !adapter.settings.ip_csum
                || wr.num_sge.cast_unsigned() > self.max_sge
            {
                result = Err((libc::EINVAL, next));
                break;
            }
            let slot = state.slot(state.posted);
            let list = &mut state.sges[slot * stride..][..wr.num_sge as usize];
            for (i, to) in list.iter_mut().enumerate() {
                // SAFETY: the caller's: the list has num_sge entries.
                *to = unsafe { *wr.sg_list.add(i) };
                bytes += i64::from(to.length);
            }
            sges += i64::from(wr.num_sge);
            let ordinal = adapter.requests.fetch_add(1, Ordering::Relaxed) + 1;
            let due = now.map(|now| {
                let delay = faults.delay.iter().find(|(at, _)| *at == ordinal);
                now + adapter.late + delay.map_or(Duration::ZERO, |(_, time)| *time)
            });
            let wqe = Wqe {
                wr_id: wr.wr_id,
                ordinal,
                num_sge: wr.num_sge.cast_unsigned(),
                signalled: self.signal_all || has(ibv_send_flags::IBV_SEND_SIGNALED),
                ip_csum,
                due,
            };
            signalled += i64::from(wqe.signalled);
            state.ring[slot] = wqe;
            state.posted += 1;
            next = wr.next;
        }
        let counters = &adapter.counters;
        counters.add(Counter::Wrs, (state.posted - before).cast_signed());
        counters.add(Counter::Sges, sges);
        counters.add(Counter::Bytes, bytes);
        counters.add(Counter::Signalled, signalled);
        result
    }

    /// Executes what is due, but not for long: other queues want their share of the wire.
    pub(crate) fn run(self: &Arc<Self>, adapter: &Adapter, scratch: &mut Scratch) -> Step {
        for _ in 0..TURN {
            let mut state = self.lock();
            if state.executed == state.posted || state.phase != ibv_qp_state::IBV_QPS_RTS {
                return Step::Idle;
            }
            let slot = state.slot(state.executed);
            let wqe = state.ring[slot];
            if let Some(due) = wqe.due.max(state.clear_at)
                && due > Instant::now()
            {
                return Step::Due(due);
            }
            scratch.sges.clear();
            scratch.sges.extend_from_slice(state.sges(slot));
            state.executing = true;
            drop(state);
            let status = {
                let regions = adapter.regions.read().unwrap();
                self.execute(adapter, &regions, &wqe, &scratch.sges, &mut scratch.frame)
            };
            let mut state = self.lock();
            state.executing = false;
            self.not_executing.notify_all();
            self.pace(&mut state, &scratch.sges);
            self.finish(adapter, &mut state, status);
        }
        Step::Ran
    }

    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.executed == state.posted || state.phase != ibv_qp_state::IBV_QPS_RTS
    }

    /// Sends one request's frame. Its memory is read here, and not before.
    fn execute(
        &self,
        adapter: &Adapter,
        regions: &Regions,
        wqe: &Wqe,
        sges: &[ibv_sge],
        frame: &mut Vec<u8>,
    ) -> ibv_wc_status::Type {
        let faults = &adapter.settings.faults;
        if let Some((_, time)) = faults.port_down.filter(|(at, _)| *at == wqe.ordinal) {
            adapter.port.force_down(time, &adapter.events);
        }
        if let Some((_, status)) = faults.wc.iter().find(|(at, _)| *at == wqe.ordinal) {
            return *status;
        }
        frame.clear();
        let mut length = 0;
        for sge in sges.iter().filter(|sge| sge.length > 0) {
            let Some(address) = regions.resolve(self.pd, sge) else {
                return ibv_wc_status::IBV_WC_LOC_PROT_ERR;
            };
            length += u64::from(sge.length);
            if self.link.reads() && length <= LONGEST_FRAME {
                // SAFETY: within a region, which was mapped when it was registered, and whose owner
                // promised to keep it so until it is deregistered, which waits for `regions`.
                unsafe { gather(frame, address, sge.length as usize) };
            }
        }
        let tag = if frame.get(12..14) == Some(&ETHERTYPE_VLAN) { 4 } else { 0 };
        let tag = if self.link.reads() { tag } else { 4 };
        if length < ETHERNET_HEADER || length > ETHERNET_HEADER + tag + u64::from(adapter.mtu) {
            return ibv_wc_status::IBV_WC_LOC_LEN_ERR;
        }
        if wqe.ip_csum {
            checksum::fill(frame);
        }
        self.link.transmit(adapter, frame);
        ibv_wc_status::IBV_WC_SUCCESS
    }

    fn pace(&self, state: &mut State, sges: &[ibv_sge]) {
        if state.rate == 0 {
            return;
        }
        let bits: u64 = sges.iter().map(|sge| u64::from(sge.length) * 8).sum();
        let time = Duration::from_nanos(bits * 1_000_000 / u64::from(state.rate));
        let now = Instant::now();
        // A thread that wakes up late catches up.
        let from = now.checked_sub(CATCH_UP).unwrap_or(now);
        state.clear_at = Some(state.clear_at.map_or(now, |at| at.max(from)) + time);
    }

    /// Books the end of the oldest request. One that failed takes those behind it along.
    fn finish(self: &Arc<Self>, adapter: &Adapter, state: &mut State, status: ibv_wc_status::Type) {
        let failed = status != ibv_wc_status::IBV_WC_SUCCESS;
        if failed {
            state.phase = adapter.settings.error_state;
        }
        let signalled = state.ring[state.slot(state.executed)].signalled;
        if signalled || failed {
            self.complete(adapter, state, status);
        } else {
            state.executed += 1;
        }
        if state.is_in_error() {
            self.flush(adapter, state);
        }
    }

    /// Ends all requests that were not executed, signalled or not.
    pub(crate) fn flush(self: &Arc<Self>, adapter: &Adapter, state: &mut State) {
        while state.executed < state.posted {
            self.complete(adapter, state, ibv_wc_status::IBV_WC_WR_FLUSH_ERR);
        }
    }

    fn complete(
        self: &Arc<Self>,
        adapter: &Adapter,
        state: &mut State,
        status: ibv_wc_status::Type,
    ) {
        let failed = status != ibv_wc_status::IBV_WC_SUCCESS;
        let wc = ibv_wc {
            wr_id: state.ring[state.slot(state.executed)].wr_id,
            status,
            // Undefined for a request that failed.
            opcode: if failed { ibv_wc_opcode::Type::MAX } else { ibv_wc_opcode::IBV_WC_SEND },
            vendor_err: if failed { VENDOR_ERROR } else { 0 },
            qp_num: self.number,
            ..ibv_wc::default()
        };
        state.executed += 1;
        if !self.cq.add(adapter, self, wc, state.executed)
            && mem::replace(&mut state.phase, ibv_qp_state::IBV_QPS_ERR)
                != ibv_qp_state::IBV_QPS_ERR
        {
            adapter.events.push(AsyncEvent::QpFatal(self.ibv.load(Ordering::Acquire)));
        }
    }

    /// Gives slots back: a completion was polled.
    pub(crate) fn free(&self, requests: u64) {
        self.freed.fetch_max(requests, Ordering::AcqRel);
    }

    /// Forgets all requests, and the completions that nobody has polled.
    pub(crate) fn reset(self: &Arc<Self>, state: &mut State) {
        state.posted = 0;
        state.executed = 0;
        state.rate = 0;
        state.clear_at = None;
        self.freed.store(0, Ordering::Release);
        self.cq.forget(self);
    }
}

const TURN: usize = 64;

const ETHERNET_HEADER: u64 = 14;
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// More than any interface's MTU; what is longer is not worth gathering.
const LONGEST_FRAME: u64 = 1 << 17;

/// Some syndrome; each vendor has others.
const VENDOR_ERROR: u32 = 0x50;
/// By how much a paced queue may be behind its schedule and catch up.
const CATCH_UP: Duration = Duration::from_millis(2);
