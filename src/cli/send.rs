//! `doorbell send`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use doorbell::backend::OpenError;
use doorbell::backend::gate::Gate;
use doorbell::config::{BackendChoice, PacingMode};
use doorbell::plan::Plan;
use doorbell::receive::{Expectation, Progress as Arrivals, Received, Receiver, TIMESTAMP_ITEM};
use doorbell::region::{Batch, Layout, Region};
use doorbell::sender::{Completion, Sender};
use doorbell::source::{Filled, SourceError};
use indicatif::HumanBytes;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::args::SendArguments;
use super::exit::{Failure, HEAPS_FAILED, INTERRUPTED};
use super::plural;
use super::progress::Progress;
use super::report::{Cost, Report};
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
    let receiver = embedded.then(|| Receiver::bind(ANY_PORT, RECEIVE_BUFFER)).transpose()?;
    let address = receiver.as_ref().map_or(LOOPBACK, Receiver::local_addr);
    let stream = Stream::prepare(config, address, &interrupted)?;
    let mut backend = stream.open()?;
    if !arguments.quiet {
        announce(&stream, embedded);
    }
    let listener = receiver.map(|receiver| Listener::start(receiver, &stream));
    if let Some(Listener { arrivals, window, .. }) = &listener {
        let arrivals = arrivals.clone();
        backend = Box::new(Gate::new(backend, *window, move || arrivals.packets()));
    }
    let mut run = Run::new(stream, Sender::new(backend), arguments.quiet, interrupted)?;
    let outcome = run.send();
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
    } else if run.report.is_success() && run.others_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(HEAPS_FAILED)
    })
}

/// Has the hardware keep to the rate if it can and may, else the sender. Returns which.
fn pace(sender: &mut Sender, stream: &Stream) -> Result<&'static str, Failure> {
    let pacing = &stream.config.pacing;
    let Some(rate) = pacing.rate else { return Ok("none") };
    if pacing.mode != PacingMode::Software && sender.pace_in_hardware(rate)? {
        return Ok("hardware");
    }
    if pacing.mode == PacingMode::Hardware {
        return Err(Failure::Open(OpenError::new(
            "pace by hardware",
            stream.way.backend(),
            "it does not keep to this rate; see `doorbell devices`, or use --pacing software",
        )));
    }
    sender.pace(Some(rate));
    Ok("software")
}

/// A flag that SIGINT and SIGTERM raise. A second one ends the program at once.
pub(super) fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, raised.clone())
            .and_then(|_| flag::register(signal, raised.clone()))
            .map_err(|error| Failure::Usage(format!("cannot handle signals: {error}")))?;
    }
    Ok(raised)
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

/// The receiver on loopback, on a thread of its own.
struct Listener {
    thread: JoinHandle<Received>,
    arrivals: Arc<Arrivals>,
    /// Packets that may be on the way without the socket's buffer being overrun.
    window: u64,
}

impl Listener {
    fn start(receiver: Receiver, stream: &Stream) -> Self {
        let expectation = Expectation {
            first_cnt: stream.first_data_cnt(),
            cnt_step: stream.config.stream.cnt_step,
            heaps: stream.heaps,
            heaps_in_flight: stream.data.heaps() as usize + 1,
            ..Expectation::new(stream.config.stream.flavour, stream.source.as_ref())
        };
        let packet = stream.data.packets().iter().map(|packet| packet.len()).max().unwrap_or(0);
        let window = receiver.window(packet);
        let arrivals = Arc::new(Arrivals::default());
        let progress = arrivals.clone();
        let thread = thread::spawn(move || receiver.run(expectation, &progress));
        Self { thread, arrivals, window }
    }

    /// What arrived of the heaps that were sent.
    fn finish(self, sent: u64) -> Received {
        self.arrivals.stop();
        let mut received = self.thread.join().unwrap_or_default();
        // The receiver knows only how many heaps there were to be.
        let whole = received.heaps + received.mismatched;
        received.incomplete = sent.saturating_sub(whole);
        received
    }
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
    start: Option<Batch>,
    stop: Option<Batch>,
    /// Heaps of descriptors and stream control that did not go out.
    others_failed: u64,
    /// Bytes of SPEAD submitted.
    spead_bytes: u64,
}

impl Run {
    fn new(
        stream: Stream,
        mut sender: Sender,
        quiet: bool,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let stream_config = &stream.config.stream;
        sender.number_heaps(stream_config.cnt_start, stream_config.cnt_step);
        let pacing = pace(&mut sender, &stream)?;
        let mut one = |plan: &Arc<Plan>| {
            sender.allocate(plan, Layout::Packed, 1, Vec::new()).map(|mut batches| batches.pop())
        };
        let (start, stop) = (one(&stream.start)?, one(&stream.stop)?);
        let in_flight = stream.config.batch.in_flight;
        let attached = stream.source.memory().filter(|_| stream.layout == Layout::Attached);
        let sources = attached.cloned().into_iter().collect();
        let idle = sender.allocate(&stream.data, stream.layout, in_flight, sources)?;
        let region: &Arc<Region> = idle[0].region();
        let pinned = [&start, &stop].into_iter().flatten().map(|batch| batch.region().memory());
        let pinned_bytes = pinned.chain([region.memory()]).map(|memory| memory.len() as u64).sum();
        let plans = [&stream.start, &stream.data, &stream.stop];
        let packets = plans.iter().flat_map(|plan| plan.packets());
        let report = Report {
            backend: stream.way.backend(),
            reason: stream.way.reason.clone(),
            heaps: 0,
            heaps_failed: 0,
            payload_bytes: 0,
            wire_bytes: 0,
            packets: 0,
            packet_size: packets.map(|packet| packet.len()).max().unwrap_or(0),
            doorbells: 0,
            seconds: 0.0,
            payload_gbit_per_s: 0.0,
            user_seconds: 0.0,
            system_seconds: 0.0,
            pacing,
            asked_gbit_per_s: stream
                .config
                .pacing
                .rate
                .map(|rate| rate.bits_per_second as f64 * 1e-9),
            wire_gbit_per_s: 0.0,
            pinned_bytes,
            pages: region.memory().pages().to_string(),
            loss: None,
            gso_segments_per_message: 0.0,
            gso_refused: 0,
            zerocopy_messages: 0,
            zerocopy_copied: 0,
            waits: 0,
            received: None,
        };
        let progress = Progress::new(stream.heaps, stream.source.heap_len() as u64, quiet);
        let start_with_data =
            start.as_ref().filter(|_| stream.first_data_heap > 0).map(|start| start.region().id());
        Ok(Self {
            data: region.id(),
            start_with_data,
            stream,
            sender,
            report,
            progress,
            interrupted,
            idle,
            start,
            stop,
            others_failed: 0,
            spead_bytes: 0,
        })
    }

    /// Sends it all: descriptors, data until there is no more, and that this is the end.
    fn send(&mut self) -> Result<(), Failure> {
        let cost = Cost::now();
        let begin = Instant::now();
        let outcome = self.send_data();
        if let Some(total) = self.stream.heaps
            && self.report.heaps < total
            && outcome.is_ok()
            && !self.interrupted.load(Ordering::Relaxed)
        {
            tracing::warn!("the source ended after {} of {total} heaps", self.report.heaps);
        }
        if let Some(stop) = self.stop.take() {
            let heaps = stop.heaps();
            self.submit(stop, heaps);
        }
        while let Some(completion) = self.sender.wait() {
            self.account(completion);
        }
        let counters = self.sender.counters();
        self.report.count(&counters, self.sender.caps().overhead, self.spead_bytes);
        self.report.time(begin.elapsed(), &cost);
        self.report.loss = self.stream.source.loss();
        outcome
    }

    fn send_data(&mut self) -> Result<(), Failure> {
        let first = self.stream.first_data_heap;
        if let Some(mut start) = self.start.take() {
            if first > 0 && !self.fill(&mut start, 0, 0)? {
                return Ok(());
            }
            let heaps = start.heaps();
            self.submit(start, heaps);
            self.report.heaps += first;
        }
        let total = self.stream.heaps.unwrap_or(u64::MAX);
        while self.report.heaps < total && !self.interrupted.load(Ordering::Relaxed) {
            let Some(mut batch) = self.idle_batch() else { break };
            let next = self.report.heaps;
            let wanted = (total - next).min(u64::from(batch.heaps())) as u32;
            let mut filled = 0;
            while filled < wanted && self.fill(&mut batch, filled, next + u64::from(filled))? {
                filled += 1;
            }
            if filled > 0 {
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

    /// Puts heap `index` of the stream into a batch. False if the source has ended.
    fn fill(&mut self, batch: &mut Batch, heap: u32, index: u64) -> Result<bool, SourceError> {
        let source = &mut self.stream.source;
        let len = source.heap_len();
        let filled = match source.offset(index).filter(|_| self.stream.layout == Layout::Attached) {
            Some(offset) if batch.attach(heap, 0, offset) => Filled::Whole,
            Some(_) => Filled::End,
            None => source.fill(index, batch.payload(heap))?,
        };
        match filled {
            Filled::Whole => {
                batch.set_immediate(heap, TIMESTAMP_ITEM, index.wrapping_mul(len as u64));
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
            let completion = self.sender.wait()?;
            self.account(completion);
        }
        self.idle.pop()
    }

    fn submit(&mut self, batch: Batch, heaps: u32) {
        self.spead_bytes += batch.region().plan().bytes_of_first(heaps);
        if let Err(rejected) = self.sender.submit_first(batch, heaps) {
            tracing::error!(%rejected, "heaps were not sent");
            self.lose(rejected.batch.slot().region, u64::from(heaps));
        }
        while let Some(completion) = self.sender.poll() {
            self.account(completion);
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
        }
        if region == self.data {
            self.idle.push(completion.batch);
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

/// Any free port of 127.0.0.1.
const ANY_PORT: SocketAddr = SocketAddr::new(LOOPBACK.ip(), 0);
/// Asked for; the kernel may grant less.
const RECEIVE_BUFFER: usize = 64 << 20;
