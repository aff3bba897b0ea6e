//! Sends batches: stamps them, posts them, and says what became of each heap.

pub mod admission;
mod completion;
mod discard;
mod error;
mod failures;
mod flush;
mod job;
mod pacing;
mod pipeline;
mod poster;
mod shared;
mod stop;
mod substreams;
#[cfg(test)]
mod tests;
mod wakeup;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use completion::{Completion, Reason, Rejected};
pub use error::AllocateError;
pub use failures::HeapFailure;
pub use job::Job;
pub(crate) use pipeline::{DRAIN, Next, PipelineOptions, pin};
pub use pipeline::{NextCompletion, Panicked, Pipeline};
pub use stop::Stop;
pub use substreams::Substreams;

use self::admission::{Admission, Admissions};
use self::completion::Entry;
pub(crate) use self::pacing::MIN_SLEEP;
use self::pacing::{Pacing, spin};
use crate::backend::wait::Wait;
use crate::backend::{Backend, Caps, Counters, Done, SendError};
use crate::histogram::Histogram;
use crate::pacer::{Counted, Rate};
use crate::plan::Plan;
use crate::region::{Arrangement, Batch, Layout, Memory, Region};

/// Sends batches through a backend.
///
/// ```
/// use std::sync::Arc;
///
/// use doorbell::backend::udp::{Udp, UdpConfig};
/// use doorbell::plan::{HeapSpec, PacketSize, Plan};
/// use doorbell::region::Layout;
/// use doorbell::sender::Sender;
/// use doorbell::wire::Flavour;
///
/// let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let backend = Udp::open(&UdpConfig::new(vec![receiver.local_addr()?]))?;
///
/// let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 1024);
/// let size = PacketSize::Uniform { limit: 1472 };
/// let plan = Arc::new(Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, 8).build()?);
///
/// let mut sender = Sender::new(Box::new(backend));
/// let mut batch = sender.allocate(&plan, Layout::Packed, 1, Vec::new())?.remove(0);
/// for heap in 0..batch.heaps() {
///     batch.set_immediate(heap, 0x1600, 1024 * u64::from(heap))?;
///     batch.fill(heap, &[7; 1024]);
/// }
/// sender.submit(batch)?;
/// let completion = sender.wait().expect("one batch is in flight");
/// assert_eq!(completion.sent(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender {
    /// First, so that it is dropped first: from then on nothing reads the batches in flight. None
    /// once it has failed.
    backend: Option<Box<dyn Backend>>,
    caps: Caps,
    /// Batches in the order of their submission.
    in_flight: VecDeque<Entry>,
    /// Regions that the backend knows.
    regions: Vec<u64>,
    /// Room for what the backend says, kept to allocate it once.
    done: Vec<Done>,
    /// What ends a wait, kept to allocate it once.
    wait: Wait,
    next_cnt: u64,
    cnt_step: u64,
    pacing: Pacing,
    admissions: Admissions,
    /// What posting stopped at, unless that was the backend, or nothing.
    held: Option<Held>,
    substreams: Substreams,
    /// Packets posted and not done.
    outstanding: u32,
    /// Packets posted so far.
    posted: u64,
    /// What the backend had done when it failed, and why it did.
    failed: Option<(Counters, SendError)>,
}

/// What packets wait for that is no backend's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Rate,
    Admission,
}

impl Sender {
    /// A sender whose heaps are numbered from 1, as those of spead2.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            substreams: Substreams::new(backend.caps().flows),
            caps: backend.caps(),
            backend: Some(backend),
            in_flight: VecDeque::new(),
            regions: Vec::new(),
            done: Vec::new(),
            wait: Wait::new(),
            next_cnt: 1,
            cnt_step: 1,
            pacing: Pacing::new(),
            admissions: Admissions::default(),
            held: None,
            outstanding: 0,
            posted: 0,
            failed: None,
        }
    }

    /// Numbers heaps from now on `next`, `next + step` and so on. Senders share a stream by other starts.
    pub fn set_cnts(&mut self, next: u64, step: u64) {
        (self.next_cnt, self.cnt_step) = (next, step);
    }

    /// The cnt of the next heap to be submitted.
    pub fn next_cnt(&self) -> u64 {
        self.next_cnt
    }

    /// A handle that switches single destinations off and on.
    pub fn substreams(&self) -> Substreams {
        self.substreams.clone()
    }

    /// Keeps to a rate in software, from now on; `None` to go as fast as can be. Batches that are
    /// submitted with a rate of their own keep to that.
    pub fn pace(&mut self, rate: Option<Rate>) {
        self.pacing.rate = rate;
    }

    /// From now on, pauses between bursts that are no longer than that are spun through, and longer ones
    /// are slept through but for that time at their end: 100 us unless said otherwise. The shorter, the
    /// less CPU time it takes, and the later bursts are.
    pub fn set_min_sleep(&mut self, min_sleep: Duration) {
        self.pacing.min_sleep = min_sleep;
    }

    /// From now on, hands no packet over that this does not admit, nor those before it, if there are.
    pub fn admit_by(&mut self, admission: Box<dyn Admission>) {
        self.admissions.add(admission);
    }

    /// By how much the times between bursts have differed from what the rate asked for.
    pub fn jitter(&self) -> &Histogram {
        self.pacing.jitter()
    }

    /// Has the hardware keep to a rate, from now on. True if it does.
    ///
    /// # Errors
    ///
    /// If the hardware has pacing, and refuses this rate.
    pub fn pace_in_hardware(&mut self, rate: Rate) -> Result<bool, SendError> {
        match &mut self.backend {
            Some(backend) if rate.counts == Counted::Wire => backend.pace(rate),
            _ => Ok(false),
        }
    }

    /// Why the backend has failed for good, if it has: then nothing more can be sent.
    pub fn failure(&self) -> Option<&SendError> {
        self.failed.as_ref().map(|(_, error)| error)
    }

    /// Lets go of the backend, whatever is in flight: batches come back by [`Sender::poll`], and heaps
    /// of which a packet is not done failed with [`SendError::Closed`]. Nothing more can be sent.
    pub fn give_up(&mut self) {
        self.collect();
        self.abandon(SendError::Closed);
    }

    /// What the backend can do.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// What the backend has done so far.
    pub fn counters(&self) -> Counters {
        match (&self.backend, &self.failed) {
            (Some(backend), _) => backend.counters(),
            (None, Some((counters, _))) => *counters,
            (None, None) => Counters::default(),
        }
    }

    /// Lays out batches of a plan in memory that suits the backend, and registers it.
    ///
    /// # Errors
    ///
    /// If there is no memory, or the backend refuses the region.
    pub fn allocate(
        &mut self,
        plan: &Arc<Plan>,
        layout: Layout,
        batches: u32,
        sources: Vec<Arc<Memory>>,
    ) -> Result<Vec<Batch>, AllocateError> {
        if plan.flows() > self.caps.flows {
            return Err(AllocateError::Flows { plan: plan.flows(), backend: self.caps.flows });
        }
        let backend = self.backend.as_mut().ok_or(AllocateError::Failed)?;
        let arrangement = Arrangement::new(plan, layout, self.caps.placement)?;
        let memory = backend.allocate(&arrangement, batches)?;
        let (region, mut batches) = Region::in_memory(arrangement, memory, batches, sources)?;
        backend.register(&region, &mut batches)?;
        self.regions.push(region.id());
        // So that the steady state allocates nothing.
        let capacity = self.in_flight.capacity() + batches.len();
        self.in_flight.reserve(capacity - self.in_flight.len());
        self.done.reserve(capacity * DONE_PER_BATCH);
        Ok(batches)
    }

    /// Sends a whole batch. See [`Sender::submit_first`].
    ///
    /// # Errors
    ///
    /// See [`Sender::submit_first`].
    pub fn submit(&mut self, batch: Batch) -> Result<(), Rejected> {
        let heaps = batch.heaps();
        self.submit_first(batch, heaps)
    }

    /// Sends the first `heaps` heaps of a batch: stamps their cnts, and posts as much as the backend
    /// and the rate allow now. [`Sender::poll`] and [`Sender::wait`] post the rest.
    ///
    /// # Errors
    ///
    /// The batch comes back at once if it is not of this sender, has fewer heaps, lacks a payload
    /// that is to be attached, or the backend has failed.
    pub fn submit_first(&mut self, batch: Batch, heaps: u32) -> Result<(), Rejected> {
        self.send(batch, heaps, None)
    }

    /// As [`Sender::submit`], at a rate of its own in place of the sender's.
    ///
    /// # Errors
    ///
    /// See [`Sender::submit_first`].
    pub fn submit_at(&mut self, batch: Batch, heaps: u32, rate: Rate) -> Result<(), Rejected> {
        self.send(batch, heaps, Some(rate))
    }

    fn send(&mut self, batch: Batch, heaps: u32, rate: Option<Rate>) -> Result<(), Rejected> {
        let reason = if !self.regions.contains(&batch.slot().region) {
            Some(Reason::Foreign)
        } else if heaps == 0 || heaps > batch.heaps() {
            Some(Reason::Heaps { asked: heaps, batch: batch.heaps() })
        } else if let Some(heap) = batch.unattached(heaps) {
            Some(Reason::Unattached { heap })
        } else {
            self.failed.as_ref().map(|(_, error)| Reason::Failed(error.clone()))
        };
        if let Some(reason) = reason {
            return Err(Rejected { batch: Box::new(batch), heaps, reason, tag: 0 });
        }
        let is_paced = rate.or(self.pacing.rate).is_some();
        if is_paced && !self.in_flight.iter().any(|entry| entry.unposted().is_some()) {
            self.pacing.resume();
        }
        let in_flight = batch.stamp(heaps, self.next_cnt, self.cnt_step);
        let disabled = self.substreams.disabled();
        let entry = Entry::new(in_flight, self.next_cnt, self.cnt_step, disabled, rate);
        self.in_flight.push_back(entry);
        self.next_cnt = self.next_cnt.wrapping_add(self.cnt_step.wrapping_mul(u64::from(heaps)));
        self.post();
        Ok(())
    }

    /// Packets that were posted so far.
    pub(crate) fn posted(&self) -> u64 {
        self.posted
    }

    /// Batches that were submitted and have not come back.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// A batch that is done, if there is one. Does not block. Posts what could not be posted before.
    pub fn poll(&mut self) -> Option<Completion> {
        self.collect();
        self.post();
        let complete = self.in_flight.iter().position(Entry::is_complete)?;
        let entry = self.in_flight.remove(complete)?;
        // SAFETY: for each packet that was posted to it, the backend has said `Done`, or it was
        // dropped: either way it reads the batch no more. No other backend was given it.
        #[expect(unsafe_code, reason = "taking a batch back rests on the backend's word")]
        let completion = entry.complete(|in_flight| unsafe { in_flight.reclaim() });
        Some(completion)
    }

    /// Blocks until a batch is done, and returns it; `None` if none is in flight.
    pub fn wait(&mut self) -> Option<Completion> {
        while !self.in_flight.is_empty() {
            if let Some(completion) = self.poll() {
                return Some(completion);
            }
            self.idle(LONGEST_WAIT);
        }
        None
    }

    /// Blocks until something may have changed, at most as long as `limit`.
    pub fn idle(&mut self, limit: Duration) {
        self.idle_with(None, Some(limit));
    }

    /// As [`Sender::idle`], or until `waker` is readable; it is not read. Without a limit, it returns at once
    /// where nothing would ever end it.
    pub(crate) fn idle_with(&mut self, waker: Option<BorrowedFd<'_>>, limit: Option<Duration>) {
        self.wait.clear();
        if self.is_any_complete() {
            return;
        }
        if let Some(pause) = self.pause() {
            let Some(sleep) = self.pacing.sleep(pause) else {
                return spin(limit.map_or(pause, |limit| pause.min(limit)));
            };
            // What the last burst completed does not wait for the next.
            self.collect();
            if self.is_any_complete() {
                return;
            }
            self.wait.at_most(sleep);
        } else if self.held == Some(Held::Rate) {
            // By now, it does not forbid it any more: no backend knows of that.
            return;
        } else if let Some(backend) = &mut self.backend {
            if let Err(error) = backend.prepare_wait(&mut self.wait) {
                return self.fail(error);
            }
            if self.held == Some(Held::Admission) {
                self.admissions.prepare_wait(&mut self.wait);
            }
        }
        if let Err(error) = self.wait.block(waker, limit) {
            self.fail(error);
        }
    }

    /// Waits for all batches, for at most as long as `limit`, and returns them.
    ///
    /// Heaps of which a packet is not done by then failed with [`SendError::Closed`].
    pub fn close(mut self, limit: Duration) -> Vec<Completion> {
        let start = Instant::now();
        let mut completions = Vec::with_capacity(self.in_flight.len());
        while !self.in_flight.is_empty() {
            match self.poll() {
                Some(completion) => completions.push(completion),
                None => match limit.saturating_sub(start.elapsed()) {
                    Duration::ZERO => self.abandon(SendError::Closed),
                    left => self.idle(LONGEST_WAIT.min(left)),
                },
            }
        }
        completions
    }

    fn is_any_complete(&self) -> bool {
        self.in_flight.iter().any(Entry::is_complete)
    }

    /// How long the rate forbids to post, if it does and there is something to post.
    fn pause(&mut self) -> Option<Duration> {
        let entry = self.in_flight.iter().find(|entry| entry.unposted().is_some())?;
        self.pacing.begin(entry.rate().or(self.pacing.rate)?).err()
    }

    /// Posts, in order of submission, what the backend, the rate and admissions allow.
    fn post(&mut self) {
        if let Err(error) = self.try_post() {
            self.collect();
            self.fail(error);
        }
    }

    fn try_post(&mut self) -> Result<(), SendError> {
        self.held = None;
        let Some(backend) = &mut self.backend else { return Ok(()) };
        for entry in &mut self.in_flight {
            while let Some(rest) = entry.unposted() {
                let depth = self.caps.max_in_flight;
                let mut end = rest.end.min(rest.start.saturating_add(depth));
                let mut burst = None;
                if let Some(rate) = entry.rate().or(self.pacing.rate) {
                    let Ok(now) = self.pacing.begin(rate) else {
                        self.held = Some(Held::Rate);
                        return Ok(());
                    };
                    end = entry.burst(&(rest.start..end), rate, self.caps.overhead);
                    burst = Some((rate, now));
                }
                let packets = entry.cut(&rest, end);
                // In as few parts as fit the queue: to post what there is room for now would leave odd
                // rests, each with a doorbell of its own.
                if packets.len() as u32 > depth.saturating_sub(self.outstanding) {
                    return Ok(());
                }
                let least = entry.least(&packets);
                let admitted = self.admissions.admit(entry.in_flight_mut(), packets.clone(), least);
                if admitted < least {
                    self.held = Some(Held::Admission);
                    return Ok(());
                }
                let packets = entry.cut(&packets, packets.start + admitted);
                let posted = backend.post(entry.in_flight_mut(), packets.clone())?;
                self.admissions.posted(posted);
                entry.posted(posted);
                self.outstanding += posted;
                self.posted += u64::from(posted);
                let end = packets.start + posted;
                // A backend that has no room takes nothing, which is no burst.
                if let Some((rate, now)) = burst.filter(|_| posted > 0) {
                    let bytes = entry.counted(packets.start..end, rate.counts, self.caps.overhead);
                    self.pacing.spend(now, bytes);
                }
                if end < packets.end {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes note of what the backend is done with.
    fn collect(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        let polled = backend.poll(&mut self.done);
        for done in self.done.drain(..) {
            self.outstanding -= done.packets.len() as u32;
            let entry = self.in_flight.iter_mut().find(|entry| entry.slot() == done.slot);
            debug_assert!(entry.is_some(), "{:?} is not in flight", done.slot);
            if let Some(entry) = entry {
                entry.done(done);
            }
        }
        if let Err(error) = polled {
            self.fail(error);
        }
    }

    /// Takes note that the backend has failed.
    fn fail(&mut self, error: SendError) {
        if self.backend.is_some() {
            tracing::error!(%error, backend = self.caps.name, "the backend has failed");
            self.abandon(error);
        }
    }

    /// Lets go of the backend: dropped, it reads no memory, and batches can come back.
    fn abandon(&mut self, error: SendError) {
        let Some(mut backend) = self.backend.take() else { return };
        // Only asks: what was not acknowledged by now is to be counted.
        let _ = backend.unacknowledged();
        let counters = backend.counters();
        drop(backend);
        for entry in &mut self.in_flight {
            entry.abandon(&error);
        }
        self.outstanding = 0;
        self.failed = Some((counters, error));
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("backend", &self.caps.name)
            .field("in_flight", &self.in_flight.len())
            .field("next_cnt", &self.next_cnt)
            .finish_non_exhaustive()
    }
}

/// How long a wait blocks before it looks around.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// A post in several parts says done several times.
const DONE_PER_BATCH: usize = 8;
