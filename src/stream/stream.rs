//! A stream that is open.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::error::{Broken, BrokenReason, StreamError};
use super::heap::Heap;
use super::jitter::Jitter;
use super::ledger::Ledger;
use super::monitor::Monitor;
use super::pacing::{FrameClock, burst_time, pace};
use super::plan::StreamPlan;
use super::report::Report;
use crate::backend::{OpenError, SendError};
use crate::pacer::Rate;
use crate::plan::Plan;
use crate::region::{Batch, Layout};
use crate::sender::admission::SocketRoom;
use crate::sender::{
    Completion, DRAIN, Job, Next, Pipeline, PipelineOptions, Reason, Rejected, Sender, Stop,
    Substreams, pin,
};
use crate::settings::{Every, Settings, SettingsError, keys};

/// A stream that is open: batches to fill come from [`Stream::idle`], go by [`Stream::submit`], and are
/// posted by another thread.
///
/// Dropped without [`Stream::close`], it sends no stop heap, and what is in flight is waited for as there.
pub struct Stream {
    pipeline: Option<Pipeline>,
    ledger: Arc<Ledger>,
    stop: Stop,
    /// What the stop calls, for as long as this exists.
    _on_stop: Option<Arc<dyn Fn() + Send + Sync>>,
    substreams: Substreams,
    /// The first batch, with descriptors in it, until it was given out.
    first: Option<Batch>,
    /// Data batches that are idle.
    idle: Vec<Batch>,
    /// Region of the data batches.
    data: u64,
    batch_heaps: u32,
    descriptors: Option<Descriptors>,
    stop_heap: Option<Batch>,
    clock: Option<FrameClock>,
    submitted: u64,
    total: Option<u64>,
    begin: Instant,
    report: Report,
}

/// Descriptors that are sent again every now and then.
struct Descriptors {
    /// None while they are in flight.
    batch: Option<Batch>,
    region: u64,
    every: u64,
    /// Data heaps that were submitted when they were.
    since: u64,
}

impl Descriptors {
    /// How many data heaps may go, of which `submitted` were, before they are due; none if they are.
    fn room(&self, submitted: u64) -> u64 {
        (self.since + self.every).saturating_sub(submitted)
    }
}

impl StreamPlan {
    /// Opens the stream.
    ///
    /// # Errors
    ///
    /// If the backend cannot be opened or refuses a setting, or there is no memory.
    pub fn open(self) -> Result<Stream, StreamError> {
        Stream::of(self)
    }
}

impl Stream {
    /// Opens a stream of such heaps: finds the way, takes memory, registers it, starts the thread that posts,
    /// which sends descriptors.
    ///
    /// # Errors
    ///
    /// If settings, heap, way or memory are not what they should be; the error names what is wrong.
    pub fn open(settings: Settings, heap: Heap) -> Result<Self, StreamError> {
        StreamPlan::new(settings, heap)?.open()
    }

    fn of(mut plan: StreamPlan) -> Result<Self, StreamError> {
        let thread =
            |step, error| StreamError::Open(OpenError::new(step, "the posting thread", error));
        let stop = match plan.stop.take() {
            Some(stop) => stop,
            None => Stop::new().map_err(|error| thread("make an eventfd", error))?,
        };
        let mut backend = plan.transport().open(plan.packets(), plan.layout())?;
        if let Some(wrap) = plan.wrap.take() {
            backend = wrap(backend);
        }
        let mut sender = Sender::new(backend);
        if plan.settings.pacing.hold_back && plan.transport().overruns_receivers() {
            sender.admit_by(Box::new(SocketRoom::open(plan.destinations())?));
        }
        plan.admissions.drain(..).for_each(|admission| sender.admit_by(admission));
        let cnts = plan.settings.senders.cnts(&plan.settings.stream);
        sender.set_cnts(cnts.0, cnts.1);
        let pacing = pace(&mut sender, &plan.settings.pacing)?;
        let mut one = |plan: &Option<Arc<Plan>>| match plan {
            Some(plan) => {
                let batches = sender.allocate(plan, Layout::Packed, 1, Vec::new());
                batches.map(|mut batches| batches.pop())
            }
            None => Ok(None),
        };
        let (descriptors, warm_up) = (one(&plan.plans.descriptors)?, one(&plan.plans.warm_up)?);
        let stop_heap = one(&plan.plans.stop)?;
        let first = match &plan.plans.first {
            Some(first) => sender.allocate(first, plan.layout(), 1, Vec::new())?.pop(),
            None => None,
        };
        let sources = plan.heap.sources().filter(|_| plan.layout() == Layout::Attached);
        let sources = sources.map_or_else(Vec::new, <[_]>::to_vec);
        let (first, idle) = match (first, plan.batches()) {
            (Some(all), 0) => (None, vec![all]),
            (first, batches) => {
                let idle = sender.allocate(plan.data(), plan.layout(), batches, sources);
                (first, idle.map_err(|error| StreamError::of_memory(error, &plan.settings))?)
            }
        };
        let single = [&descriptors, &warm_up, &stop_heap, &first];
        let pinned_bytes = single.into_iter().flatten().chain(idle.first());
        let pinned_bytes = pinned_bytes.map(|it| it.region().memory().len() as u64).sum();
        let region = |batch: &Batch| batch.slot().region;
        let data = region(&idle[0]);
        let ledger = Arc::new(Ledger::new(
            plan.destinations(),
            [data, first.as_ref().map_or(data, region)],
            plan.heap.payload_len(),
            sender.caps().overhead,
        ));
        let report = Report {
            pacing,
            pinned_bytes,
            pages: idle[0].region().memory().pages().to_string(),
            ..Report::of(&plan)
        };
        let substreams = sender.substreams();
        let cpu = &plan.settings.backend.cpu;
        let (noted, ended) = (ledger.clone(), plan.ended.take());
        let on_stop: Option<Arc<dyn Fn() + Send + Sync>> = ended.clone().map(|ended| {
            let raise: Arc<dyn Fn() + Send + Sync> = Arc::new(move || ended.raise());
            stop.tell(&raise);
            raise
        });
        let options = PipelineOptions {
            // Besides those with data, one of each other kind.
            batches: plan.batches() as usize + 4,
            cpu: cpu.first().map(|&cpu| cpu as usize),
            drain: DRAIN + burst_time(&plan.settings.pacing, report.packet_size),
            observer: Some(Box::new(move |result, sender| {
                noted.note(result, sender);
                if let Some(ended) = ended.as_ref().filter(|_| noted.is_broken()) {
                    ended.raise();
                }
            })),
            stop: stop.clone(),
            last: stop_heap.as_ref().map(Batch::slot),
        };
        let no_cpu = |cpu: u32, error: std::io::Error| {
            let hint = format!("{error}; nproc(1) says how many CPUs there are, from 0 on");
            StreamError::Settings(SettingsError::unusable(keys::CPU, cpu, hint))
        };
        let pipeline =
            Pipeline::start_with(sender, options).map_err(|error| match cpu.first() {
                Some(&cpu) => no_cpu(cpu, error),
                None => thread("start", error),
            })?;
        if let Some(&cpu) = cpu.get(1) {
            pin(cpu as usize).map_err(|error| no_cpu(cpu, error))?;
        }
        let span = plan.settings.stream.warm_up.map_or(Duration::ZERO, |span| span.duration());
        let mut stream = Self {
            ledger,
            stop,
            _on_stop: on_stop,
            substreams,
            first,
            idle,
            data,
            batch_heaps: plan.data().heaps(),
            descriptors: None,
            stop_heap,
            clock: FrameClock::new(&plan.settings.pacing, plan.destinations().len(), span),
            submitted: 0,
            total: plan.heaps(),
            begin: Instant::now() + span,
            report,
            pipeline: Some(pipeline),
        };
        if let Some(batch) = warm_up {
            stream.pipeline().warm_up(batch, WARM_UP_INTERVAL, span, cnts);
        }
        if let Some(batch) = descriptors {
            stream.describe(batch, &plan);
        }
        Ok(stream)
    }

    /// Sends descriptors, now unless the first batch of data has them, and again as often as settings say.
    fn describe(&mut self, batch: Batch, plan: &StreamPlan) {
        let (region, heaps) = (batch.slot().region, batch.heaps());
        let with_data = plan.plans.first.is_some();
        match plan.settings.heap.descriptors_every {
            Some(Every::Time(span)) => self.pipeline().repeat(batch, span.duration()),
            Some(Every::Heaps(heaps)) => {
                // Turns of heaps that go to one destination each are not broken off.
                let every = heaps.next_multiple_of(plan.destinations().len() as u64);
                let mut descriptors = Descriptors { batch: Some(batch), region, every, since: 0 };
                if !with_data {
                    let batch = descriptors.batch.take();
                    batch.into_iter().for_each(|it| self.pipeline().submit(it));
                }
                self.descriptors = Some(descriptors);
            }
            None => self.pipeline().submit_first(batch, heaps),
        }
    }

    fn pipeline(&mut self) -> &mut Pipeline {
        self.pipeline.as_mut().expect("a stream has a pipeline until it is closed")
    }

    /// Heaps of a batch.
    pub fn batch_heaps(&self) -> u32 {
        self.batch_heaps
    }

    /// Data heaps that were submitted so far.
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// How many heaps the next submit is to have at most: as many as a batch has, but no more than the stream
    /// is to have, or than may go before descriptors are due again.
    pub fn room(&self) -> u32 {
        let mut room = u64::from(self.batch_heaps).min(self.left());
        if let Some(descriptors) = &self.descriptors {
            room = match descriptors.room(self.submitted) {
                // If they are still in flight, they are due until they are not.
                0 => room.min(descriptors.every),
                before => room.min(before),
            };
        }
        room as u32
    }

    fn left(&self) -> u64 {
        self.total.map_or(u64::MAX, |total| total - self.submitted)
    }

    /// A handle that ends the stream: from then on [`Stream::idle`] gives no batch. What was submitted goes
    /// on, and [`Stream::close`] still sends the stop heap.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// A handle that switches single destinations off and on.
    pub fn substreams(&self) -> Substreams {
        self.substreams.clone()
    }

    /// A handle that says how the stream stands.
    pub fn monitor(&self) -> Monitor {
        Monitor { ledger: self.ledger.clone() }
    }

    /// Whether the stream takes no more heaps: it has as many as it was to have, was stopped, or has failed
    /// for good, of which [`Stream::close`] tells the reason.
    pub fn is_ended(&self) -> bool {
        self.left() == 0 || self.stop.is_raised() || self.ledger.is_broken()
    }

    /// A batch to fill: one that was never sent, or the next that is done. `None` once the stream takes no
    /// more, see [`Stream::is_ended`]. Blocks while all batches are in flight.
    pub fn idle(&mut self) -> Option<Batch> {
        loop {
            if let Some(found) = self.ready() {
                return found;
            }
            let next = self.pipeline().next();
            if !self.take(next) {
                return None;
            }
        }
    }

    /// As [`Stream::idle`], to be awaited, by no particular runtime.
    pub fn idle_async(&mut self) -> NextBatch<'_> {
        NextBatch { stream: self }
    }

    /// A batch that is there already; that there will be none; or neither.
    fn ready(&mut self) -> Option<Option<Batch>> {
        while let Some(result) = self.pipeline().poll() {
            self.give_back(result);
        }
        if self.is_ended() {
            return Some(None);
        }
        self.first.take().or_else(|| self.idle.pop()).map(Some)
    }

    /// Takes what the pipeline says. False if there is no more to come.
    fn take(&mut self, next: Next) -> bool {
        match next {
            Next::Result(result) => {
                self.give_back(result);
                true
            }
            Next::Stopped | Next::Nothing => false,
        }
    }

    fn give_back(&mut self, result: Result<Completion, Rejected>) {
        let batch = match result {
            Ok(completion) => completion.batch,
            Err(rejected) => *rejected.batch,
        };
        let region = batch.slot().region;
        if region == self.data {
            self.idle.push(batch);
        } else if let Some(descriptors) = &mut self.descriptors
            && descriptors.region == region
        {
            descriptors.batch = Some(batch);
        }
    }

    /// Sends the first `heaps` heaps of a batch. Does not block: another thread posts it, as soon as the rate,
    /// the frame rate and what was submitted before allow.
    /// A batch that was given out before a stop is still taken: what was filled is not to be lost.
    ///
    /// # Errors
    ///
    /// The batch comes back if it holds fewer heaps, or the stream takes fewer; if it is of another stream,
    /// or lacks payload that is to be attached.
    pub fn submit(&mut self, batch: Batch, heaps: u32) -> Result<(), Rejected> {
        self.submit_job(batch, heaps, None)
    }

    /// As [`Stream::submit`], at a rate of its own in place of the stream's.
    ///
    /// # Errors
    ///
    /// See [`Stream::submit`].
    pub fn submit_at(&mut self, batch: Batch, heaps: u32, rate: Rate) -> Result<(), Rejected> {
        self.submit_job(batch, heaps, Some(rate))
    }

    fn submit_job(&mut self, batch: Batch, heaps: u32, rate: Option<Rate>) -> Result<(), Rejected> {
        let reason = if self.left() < u64::from(heaps) || self.ledger.is_broken() {
            Some(Reason::Ended)
        } else if heaps == 0 || heaps > batch.heaps() {
            Some(Reason::Heaps { asked: heaps, batch: batch.heaps() })
        } else {
            batch.unattached(heaps).map(|heap| Reason::Unattached { heap })
        };
        if let Some(reason) = reason {
            return Err(Rejected { batch: Box::new(batch), heaps, reason, tag: 0 });
        }
        let submitted = self.submitted;
        if let Some(descriptors) = &mut self.descriptors
            && descriptors.room(submitted) == 0
            && let Some(batch) = descriptors.batch.take()
        {
            descriptors.since = submitted;
            self.pipeline().submit(batch);
        }
        let not_before = self.clock.as_mut().map(|clock| clock.due(submitted));
        self.ledger.submit(heaps);
        self.submitted += u64::from(heaps);
        self.pipeline().submit_job(Job { batch, heaps, rate, not_before, tag: 0 });
        Ok(())
    }

    /// Ends the stream: sends the stop heap, waits for what is in flight, and says what became of it all.
    ///
    /// Where nothing goes any more, for ten seconds, what is in flight is given up; its heaps failed. Not so over
    /// TCP, where a receiver may be slow, or paused, and lose nothing: it is waited for until it has acknowledged
    /// everything or the connection is lost, and for ten seconds more at most once a [`Stop`] is raised, for one
    /// once it is aborted.
    ///
    /// # Errors
    ///
    /// If the backend has failed for good, or the thread that posts panicked. The report is in the error.
    pub fn close(mut self) -> Result<Report, Broken> {
        let mut pipeline =
            self.pipeline.take().expect("a stream has a pipeline until it is closed");
        if let Some(batch) = self.stop_heap.take().filter(|_| !self.ledger.is_broken()) {
            pipeline.submit(batch);
        }
        let closed = pipeline.close();
        let elapsed = Instant::now().saturating_duration_since(self.begin);
        let reason = match closed {
            Ok((mut sender, _)) => {
                self.await_acknowledgement(&mut sender);
                self.ledger.observe(&sender);
                self.report.jitter = Jitter::of(sender.jitter());
                // What was given up is counted, and no failure of the backend's.
                let failure = sender.failure().filter(|it| **it != SendError::Closed);
                failure.cloned().map(BrokenReason::Failed)
            }
            Err(panicked) => {
                self.ledger.lose_the_rest();
                Some(BrokenReason::Panicked(panicked))
            }
        };
        let mut report = std::mem::take(&mut self.report);
        report.count(&self.ledger.figures(), elapsed);
        report.heaps_unsubmitted = self.total.map_or(0, |total| total - self.submitted);
        report.others_failed = self.ledger.others_failed();
        report.destinations = self.ledger.destinations();
        match reason {
            None => Ok(report),
            Some(reason) => Err(Broken { reason, report: Box::new(report) }),
        }
    }

    /// Waits until all is acknowledged, where the protocol has that; not much longer once it is to stop.
    fn await_acknowledgement(&self, sender: &mut Sender) {
        let (mut stopped, mut is_said) = (None, false);
        sender.flush_unless(|left| {
            if left.silence >= SILENCE && !is_said {
                is_said = true;
                tracing::warn!(
                    "the receiver has yet to acknowledge {} bytes, and is silent: it is waited for until it \
                     does, or the connection is lost",
                    left.bytes
                );
            }
            let patience = if self.stop.is_aborted() { IMPATIENCE } else { DRAIN };
            self.stop.is_raised() && stopped.get_or_insert_with(Instant::now).elapsed() >= patience
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(pipeline) = self.pipeline.take() else { return };
        // Waits, but no longer than for what still goes.
        drop(pipeline);
        let failed = self.ledger.figures().heaps_failed;
        if failed > 0 {
            tracing::error!(
                "the stream was dropped, not closed: {failed} of {} heaps are lost",
                self.submitted
            );
        }
    }
}

/// What [`Stream::idle_async`] returns.
#[must_use = "futures do nothing unless awaited"]
pub struct NextBatch<'a> {
    stream: &'a mut Stream,
}

impl Future for NextBatch<'_> {
    type Output = Option<Batch>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        let stream = &mut *self.stream;
        loop {
            if let Some(found) = stream.ready() {
                return Poll::Ready(found);
            }
            match stream.pipeline().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => {
                    if !stream.take(next) {
                        return Poll::Ready(None);
                    }
                }
            }
        }
    }
}

/// Between heaps that warm up: ten a second.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(100);
/// After an abort: for those who have only yet to say that they have it all.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// Of a receiver over TCP, before it is said what is waited for.
const SILENCE: Duration = Duration::from_secs(5);
