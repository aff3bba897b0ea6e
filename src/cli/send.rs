//! `doorbell send`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use doorbell::backend::backlog::Backlog;
use doorbell::backend::gate::Gate;
use doorbell::config::BackendChoice;
use doorbell::pacer::Counted;
use doorbell::plan::Plan;
use doorbell::receive::Receiver;
use doorbell::region::{Batch, Layout, Region};
use doorbell::sender::{Completion, Sender};
use doorbell::source::{FRAME_NUMBER_ITEM, Filled, SourceError, TIMESTAMP_ITEM};
use indicatif::HumanBytes;

use super::args::SendArguments;
use super::descriptors::DescriptorClock;
use super::destinations::Destinations;
use super::exit::{Failure, HEAPS_FAILED, INTERRUPTED};
use super::frame_clock::FrameClock;
use super::jitter::Jitter;
use super::listener::Listener;
use super::monitor::{Figures, Monitor};
use super::nic::Nic;
use super::pacing::{gbit_per_s, pace};
use super::plural;
use super::progress::Progress;
use super::report::{Cost, Report};
use super::signals::interruption;
use super::stream::{LOOPBACK, Stream};

/// Sends a stream, and says what became of it.
pub fn run(arguments: SendArguments) -> Result<ExitCode, Failure> {
    let config = arguments.what.configuration()?;
    if arguments.print_config {
        say!("{}", config.to_toml().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let interrupted = interruption()?;
    let embedded =
        config.stream.to.is_empty() && !matches!(config.backend.choice, BackendChoice::Pcap(_));
    let receiver = embedded.then(Listener::bind).transpose()?;
    let address = receiver.as_ref().map_or(LOOPBACK, Receiver::local_addr);
    let stream = Stream::prepare(config, address, &interrupted)?;
    let mut backend = stream.open()?;
    if stream.config.pacing.hold_back {
        backend = Box::new(Backlog::open(backend, &stream.destinations)?);
    }
    if !arguments.quiet {
        announce(&stream, embedded);
    }
    let listener = receiver.map(|receiver| Listener::start(receiver, &stream));
    if let Some(Listener { arrivals, window, .. }) = &listener {
        let arrivals = arrivals.clone();
        backend = Box::new(Gate::new(backend, *window, move || arrivals.packets()));
    }
    let monitor = Monitor::start(&stream.config.monitor, stream.config.pacing.rate)?;
    let mut run = Run::new(stream, Sender::new(backend), arguments.quiet, interrupted, monitor)?;
    let nic = Nic::of(&run.stream);
    let before = nic.as_ref().and_then(Nic::counters);
    let outcome = run.send();
    run.report.device = nic.as_ref().zip(before).and_then(|(nic, before)| nic.since(&before));
    let sent = run.report.heaps - run.report.heaps_failed;
    run.report.received = listener.map(|listener| listener.finish(sent));
    run.progress.finish();

    if !arguments.quiet {
        run.report.print();
    }
    if arguments.json {
        say!("{}", serde_json::to_string(&run.report).map_err(|e| Failure::Usage(e.to_string()))?);
    }
    outcome?;
    Ok(if run.interrupted.load(Ordering::Relaxed) {
        ExitCode::from(INTERRUPTED)
    } else if run.report.is_success() && run.others_failed == 0 && run.sender.failure().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(HEAPS_FAILED)
    })
}

fn announce(stream: &Stream, embedded: bool) {
    let heap = HumanBytes(stream.source.heap_len() as u64);
    let heaps = stream.heaps.map_or_else(|| "heaps".into(), |heaps| plural(heaps, "heap"));
    let queues: Vec<_> = stream.config.stream.destinations().filter_map(|to| to.queue()).collect();
    let to = match (embedded, stream.destinations.as_slice()) {
        (_, [_]) if !queues.is_empty() => queues[0].to_string(),
        (true, _) => "its own receiver on loopback".to_owned(),
        (false, [to]) => to.to_string(),
        (false, [first, .., last]) => {
            format!("{} destinations, {first} to {last}", stream.destinations.len())
        }
        (false, []) => unreachable!("a stream has a destination"),
    };
    say!("sending   {heaps} of {heap} to {to}");
    say!("          over {} ({})", stream.way.backend(), stream.way.reason);
}

/// A stream on its way.
struct Run {
    stream: Stream,
    sender: Sender,
    report: Report,
    progress: Progress,
    interrupted: Arc<AtomicBool>,
    /// Region of the data batches.
    data: u64,
    /// Region of the start batch, if that carries data.
    start_with_data: Option<u64>,
    /// Data batches that are idle.
    idle: Vec<Batch>,
    /// Descriptors, while they are not in flight; and their region.
    start: Option<Batch>,
    start_region: u64,
    stop: Option<Batch>,
    /// What goes before the stream, while it is not in flight.
    warm_up: Option<Batch>,
    destinations: Destinations,
    /// Heaps of descriptors and stream control that did not go out.
    others_failed: u64,
    /// Bytes of SPEAD submitted.
    spead_bytes: u64,
    monitor: Monitor,
}

impl Run {
    fn new(
        stream: Stream,
        mut sender: Sender,
        quiet: bool,
        interrupted: Arc<AtomicBool>,
        monitor: Monitor,
    ) -> Result<Self, Failure> {
        let (first, step) = stream.config.senders.cnts(&stream.config.stream);
        sender.number_heaps(first, step);
        let pacing = pace(&mut sender, &stream)?;
        let mut one = |plan: &Arc<Plan>| {
            sender.allocate(plan, Layout::Packed, 1, Vec::new()).map(|mut batches| batches.pop())
        };
        let (start, stop) = (one(&stream.start)?, one(&stream.stop)?);
        let warm_up = stream.warm_up.as_ref().map_or(Ok(None), &mut one)?;
        let in_flight = stream.config.batch.in_flight;
        let attached = stream.source.mapped().filter(|_| stream.layout == Layout::Attached);
        let sources = attached.map_or_else(Vec::new, |mapped| mapped.memories().to_vec());
        let idle = sender.allocate(&stream.data, stream.layout, in_flight, sources)?;
        let region: &Arc<Region> = idle[0].region();
        let pinned =
            [&start, &stop, &warm_up].into_iter().flatten().map(|batch| batch.region().memory());
        let pinned_bytes = pinned.chain([region.memory()]).map(|memory| memory.len() as u64).sum();
        let plans = [&stream.start, &stream.data, &stream.stop];
        let packets = plans.iter().flat_map(|plan| plan.packets());
        let report = Report {
            backend: stream.way.backend(),
            reason: stream.way.reason.clone(),
            packet_size: packets.map(|packet| packet.len()).max().unwrap_or(0),
            pacing,
            asked_gbit_per_s: stream.config.pacing.rate.map(gbit_per_s),
            rate_counts: stream.config.pacing.rate.map(|rate| match rate.counts {
                Counted::Wire => "wire",
                Counted::Payload => "payload",
            }),
            pinned_bytes,
            pages: region.memory().pages().to_string(),
            ..Report::default()
        };
        let progress = Progress::new(stream.heaps, stream.source.heap_len() as u64, quiet);
        let start_with_data =
            start.as_ref().filter(|_| stream.first_data_heap > 0).map(|start| start.region().id());
        let stream_start = start.as_ref().map_or(0, |start| start.region().id());
        let destinations = Destinations::new(&stream.destinations);
        Ok(Self {
            destinations,
            data: region.id(),
            start_with_data,
            stream,
            sender,
            report,
            progress,
            interrupted,
            idle,
            start_region: stream_start,
            start,
            stop,
            warm_up,
            others_failed: 0,
            spead_bytes: 0,
            monitor,
        })
    }

    /// Sends it all: descriptors, data until there is no more, and that this is the end.
    fn send(&mut self) -> Result<(), Failure> {
        self.warm_up();
        let cost = Cost::now();
        let begin = Instant::now();
        let outcome = self.send_data();
        let missing = self.stream.heaps.map_or(0, |total| total - self.report.heaps);
        self.report.heaps_unsubmitted = missing;
        if missing > 0 && outcome.is_ok() && !self.interrupted.load(Ordering::Relaxed) {
            match self.sender.failure() {
                Some(error) => tracing::error!("{missing} heaps were not submitted: {error}"),
                None => tracing::warn!("the source ended {missing} heaps early"),
            }
        }
        if let Some(stop) = self.stop.take().filter(|_| self.stream.config.senders.stop_heap) {
            let heaps = stop.heaps();
            self.submit(stop, heaps);
        }
        while let Some(completion) = self.next_completion(true) {
            self.account(completion);
        }
        self.sender.flush(LONGEST_SILENCE);
        let counters = self.sender.counters();
        self.report.count(&counters, self.sender.caps().overhead, self.spead_bytes);
        self.report.time(begin.elapsed(), &cost);
        self.report.loss = self.stream.source.loss();
        self.report.destinations = self.destinations.list();
        self.report.jitter = Jitter::of(self.sender.jitter());
        outcome
    }

    /// Sends heaps that say nothing, again and again the same, until the network is ready.
    fn warm_up(&mut self) {
        let config = &self.stream.config;
        let (Some(span), Some(plan)) = (config.stream.warm_up, &self.stream.warm_up) else {
            return;
        };
        let (heaps, (first, step)) = (plan.heaps(), config.senders.cnts(&config.stream));
        let begin = Instant::now();
        while begin.elapsed() < span.duration() && !self.interrupted.load(Ordering::Relaxed) {
            if let Some(batch) = self.warm_up.take() {
                // The same cnts, so that those of the stream do not depend on the time this takes.
                self.sender.number_heaps(first, step);
                self.submit(batch, heaps);
            }
            let pause = Instant::now();
            while let Some(left) = WARM_UP_INTERVAL.checked_sub(pause.elapsed())
                && !self.interrupted.load(Ordering::Relaxed)
            {
                self.rest(left);
            }
        }
        self.sender.number_heaps(first.wrapping_add(step.wrapping_mul(heaps.into())), step);
    }

    fn send_data(&mut self) -> Result<(), Failure> {
        if !self.send_descriptors(&mut None)? {
            return Ok(());
        }
        let total = self.stream.heaps.unwrap_or(u64::MAX);
        let mut frames = FrameClock::start(&self.stream);
        let mut descriptors = DescriptorClock::start(&self.stream);
        while self.report.heaps < total && !self.interrupted.load(Ordering::Relaxed) {
            let next = self.report.heaps;
            let mut room = total - next;
            if let Some(clock) = &mut descriptors {
                let due = clock.room(next) == 0;
                // If they are still in flight, they are due until they are not.
                if due && self.start.is_some() {
                    clock.restart(next);
                    if !self.send_descriptors(&mut frames)? {
                        break;
                    }
                    continue;
                }
                room = if due { room } else { room.min(clock.room(next)) };
            }
            let Some(mut batch) = self.idle_batch() else { break };
            let wanted = room.min(u64::from(batch.heaps())) as u32;
            let mut filled = 0;
            while filled < wanted && self.fill(&mut batch, filled, next + u64::from(filled))? {
                filled += 1;
            }
            self.check(next, u64::from(filled))?;
            if filled > 0 {
                self.wait_until_due(&mut frames, next);
                self.submit(batch, filled);
                self.report.heaps += u64::from(filled);
                self.progress.sent(self.report.heaps);
            }
            if filled < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Sends descriptors, with the next data heap where they go together. False if the source has ended.
    fn send_descriptors(&mut self, frames: &mut Option<FrameClock>) -> Result<bool, Failure> {
        let Some(mut start) = self.start.take() else { return Ok(true) };
        let (next, with_data) = (self.report.heaps, self.stream.first_data_heap);
        if with_data > 0 {
            if !self.fill(&mut start, 0, next)? {
                return Ok(false);
            }
            self.wait_until_due(frames, next);
        }
        self.check(next, with_data)?;
        let heaps = start.heaps();
        self.submit(start, heaps);
        self.report.heaps += with_data;
        Ok(true)
    }

    /// Lets what is in flight go on until heap `next` is due.
    fn wait_until_due(&mut self, frames: &mut Option<FrameClock>, next: u64) {
        while let Some(left) = frames.as_mut().and_then(|frames| frames.left(next))
            && !self.interrupted.load(Ordering::Relaxed)
        {
            self.rest(left);
        }
    }

    /// Whether what `heaps` heaps from heap `first` of this sender's were made of is still there.
    fn check(&self, first: u64, heaps: u64) -> Result<(), SourceError> {
        match first.checked_add(heaps.wrapping_sub(1)).filter(|_| heaps > 0) {
            Some(last) => self.stream.source.check(self.index(first)..self.index(last) + 1),
            None => Ok(()),
        }
    }

    /// Which heap of the source heap `own` of this sender's is.
    fn index(&self, own: u64) -> u64 {
        self.stream.config.senders.heaps().map_or(own, |rank| rank.nth(own))
    }

    /// Puts heap `index` of this sender's into a batch. False if the source has ended.
    fn fill(&mut self, batch: &mut Batch, heap: u32, index: u64) -> Result<bool, SourceError> {
        let index = self.index(index);
        let source = &mut self.stream.source;
        let len = source.heap_len();
        let attached = source.mapped().filter(|_| self.stream.layout == Layout::Attached);
        let filled = match attached.map(|mapped| mapped.place(index)) {
            Some(Some(place)) if batch.attach(heap, place.memory, place.offset) => Filled::Whole,
            Some(_) => Filled::End,
            None => source.fill(index, batch.payload(heap))?,
        };
        match filled {
            Filled::Whole => {
                batch.set_immediate(heap, TIMESTAMP_ITEM, index.wrapping_mul(len as u64));
                if self.stream.config.heap.frame_number {
                    batch.set_immediate(heap, FRAME_NUMBER_ITEM, index);
                }
                Ok(true)
            }
            Filled::End => Ok(false),
            Filled::Partial(bytes) => {
                tracing::warn!(
                    "the source ended in the middle of a heap: its last {bytes} bytes, of {len} \
                     that a heap has, were not sent"
                );
                Ok(false)
            }
        }
    }

    /// A data batch to fill: one that is idle, else the next that is done.
    fn idle_batch(&mut self) -> Option<Batch> {
        while self.idle.is_empty() {
            let completion = self.next_completion(false)?;
            self.account(completion);
        }
        self.idle.pop()
    }

    /// The next batch that is done; `None` if none is in flight. If this is to be the `end` of the
    /// stream, batches of which nothing goes any more are given up after [`DRAIN`].
    fn next_completion(&mut self, end: bool) -> Option<Completion> {
        let (mut since, mut packets) = (Instant::now(), self.sender.counters().packets);
        // A rate may be so low that a burst of it takes longer.
        let burst = self.stream.config.pacing.rate.map_or(0.0, |rate| {
            let largest = f64::from(rate.burst).max(self.report.packet_size as f64);
            largest * 8.0 / rate.bits_per_second as f64
        });
        let patience = DRAIN + Duration::try_from_secs_f64(burst).unwrap_or(Duration::MAX / 2);
        while self.sender.in_flight() > 0 {
            if let Some(completion) = self.sender.poll() {
                return Some(completion);
            }
            self.sender.idle(LONGEST_WAIT);
            let ending = end || self.interrupted.load(Ordering::Relaxed);
            let posted = self.sender.counters().packets;
            if posted != packets || !ending {
                (since, packets) = (Instant::now(), posted);
            } else if since.elapsed() >= patience {
                tracing::error!("nothing goes any more: what is in flight is given up");
                self.sender.give_up();
            }
        }
        None
    }

    fn submit(&mut self, batch: Batch, heaps: u32) {
        self.spead_bytes += batch.region().plan().bytes_of_first(heaps);
        if let Err(rejected) = self.sender.submit_first(batch, heaps) {
            tracing::error!(%rejected, "heaps were not sent");
            let region = rejected.batch.slot().region;
            self.lose(region, u64::from(heaps));
            if self.carries_data(region) {
                let payload = self.stream.source.heap_len() as u64;
                self.destinations.refused(rejected.batch.region().plan(), heaps, payload);
            }
        }
        while let Some(completion) = self.sender.poll() {
            self.account(completion);
        }
    }

    /// Lets what is in flight go on, for at most as long as `limit`.
    fn rest(&mut self, limit: Duration) {
        while let Some(completion) = self.sender.poll() {
            self.account(completion);
        }
        match self.sender.in_flight() {
            0 => thread::sleep(limit.min(LONGEST_REST)),
            _ => self.sender.idle(limit.min(SHORT_REST)),
        }
    }

    /// Takes note of what became of a batch, and of the batch.
    fn account(&mut self, completion: Completion) {
        let region = completion.batch.slot().region;
        if let Some(first) = completion.failures.first() {
            tracing::warn!(
                "{} of {} heaps did not go out, the first with cnt {}: {}",
                completion.failures.len(),
                completion.heaps,
                first.cnt,
                first.error
            );
        }
        self.lose(region, completion.failures.len() as u64);
        if self.carries_data(region) {
            let heap_len = self.stream.source.heap_len() as u64;
            self.report.payload_bytes += u64::from(completion.sent()) * heap_len;
            self.destinations.account(&completion, heap_len);
        }
        self.monitor.update(|| self.figures());
        if region == self.data {
            self.idle.push(completion.batch);
        } else if region == self.start_region {
            self.start = Some(completion.batch);
        } else if self.stream.warm_up.is_some() {
            self.warm_up = Some(completion.batch);
        }
    }

    fn figures(&self) -> Figures {
        let counters = self.sender.counters();
        Figures {
            heaps: self.report.heaps,
            heaps_failed: self.report.heaps_failed,
            payload_bytes: self.report.payload_bytes,
            wire_bytes: self.spead_bytes
                + counters.packets * u64::from(self.sender.caps().overhead as u32),
            in_flight: self.sender.in_flight() as u64,
            counters,
        }
    }

    fn lose(&mut self, region: u64, heaps: u64) {
        match self.carries_data(region) {
            true => self.report.heaps_failed += heaps,
            false => self.others_failed += heaps,
        }
    }

    fn carries_data(&self, region: u64) -> bool {
        region == self.data || self.start_with_data == Some(region)
    }
}

/// Between heaps that warm up: ten a second.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(100);
/// Until the signal that ends the program is seen.
const LONGEST_REST: Duration = Duration::from_millis(50);
/// Until what is in flight is looked at.
const SHORT_REST: Duration = Duration::from_millis(1);
/// Of a receiver over TCP, before what it did not acknowledge is reported as such.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// How long a stream that ends waits while nothing of it goes.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a wait blocks before it looks around.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
