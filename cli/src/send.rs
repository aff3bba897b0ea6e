//! `doorbell send`.

use std::process::ExitCode;

use doorbell::region::{Batch, Layout};
use doorbell::sender::Stop;
use doorbell::stream::{Broken, Stream, StreamPlan};
use indicatif::HumanBytes;

use super::args::SendArguments;
use super::exit::{Failure, HEAPS_FAILED, INTERRUPTED};
use super::interruption::Interruption;
use super::listener::Embedded;
use super::monitor::Monitor;
use super::nic::Nic;
use super::plural;
use super::progress::Progress;
use super::report::{Cost, SendReport};
use super::setup::{LOOPBACK, Setup};
use super::source::{FRAME_NUMBER_ITEM, Filled, Source, SourceError, TIMESTAMP_ITEM};

/// Sends a stream, and says what became of it.
pub fn run(arguments: SendArguments) -> Result<ExitCode, Failure> {
    let Interruption { stop, ended, standing } = Interruption::attend()?;
    let config = arguments.what.configuration()?;
    if arguments.print_config {
        say!("{}", config.to_toml().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let settings = &config.settings;
    let embedded = settings.stream.to.is_empty() && settings.backend.kind.has_receiver();
    let (receiver, address) = match embedded {
        true => {
            let receiver = Embedded::bind()?;
            let address = receiver.address();
            (Some(receiver), address)
        }
        false => (None, LOOPBACK),
    };
    let Setup { config, source, plan } = Setup::new(config, address, &ended)?;
    let listener = receiver.map(|it| it.start(&plan, source.as_ref())).transpose()?;
    let monitor = Monitor::bind(&config)?;
    let nic = Nic::of(&plan);
    let before = nic.as_ref().and_then(Nic::counters);
    let announcement = announcement(&plan, source.heap_len(), embedded);
    let filler = Filler::new(&plan, source, config.frame_number, ended.clone());
    let (heaps, heap_len) = (plan.heaps(), filler.source.heap_len() as u64);
    let plan = match &listener {
        Some(listener) => listener.hold_back(plan),
        None => plan,
    };
    let cost = Cost::now();
    let stream = plan.stopped_by(stop.clone()).tells_end(ended).open()?;
    let talks = !arguments.quiet && !arguments.json;
    if talks {
        say!("{announcement}");
    }
    let mut progress = Progress::new(heaps, heap_len, arguments.quiet, stream.monitor());
    standing.set(stream.monitor(), heap_len);
    let watch = monitor.watch(stream.monitor())?;
    let (ended, outcome, loss) = filler.send(stream, &stop);
    drop(watch);
    let (stream, broken) = match ended {
        Ok(report) => (report, false),
        Err(Broken { reason, report }) => {
            tracing::error!("{} of the stream's heaps failed: {reason}", report.heaps_failed);
            (*report, true)
        }
    };
    let received = listener.map(|listener| listener.finish(stream.sent()));
    progress.finish();
    let mut report = SendReport { stream, loss, received, ..SendReport::default() };
    report.cost(&cost);
    report.device = nic.as_ref().zip(before).and_then(|(nic, before)| nic.since(&before));
    if talks {
        report.print();
    }
    if arguments.json {
        say!("{}", serde_json::to_string(&report).map_err(|e| Failure::Usage(e.to_string()))?);
    }
    outcome?;
    Ok(if stop.is_raised() {
        ExitCode::from(INTERRUPTED)
    } else if report.is_success() && !broken {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(HEAPS_FAILED)
    })
}

/// What is sent, where to and by which way.
fn announcement(plan: &StreamPlan, heap_len: usize, embedded: bool) -> String {
    let heap = HumanBytes(heap_len as u64);
    let heaps = plan.heaps().map_or_else(|| "heaps".into(), |heaps| plural(heaps, "heap"));
    let stream = &plan.settings().stream;
    let to = match (embedded, plan.destinations()) {
        (true, _) => "its own receiver on loopback".to_owned(),
        (false, [to]) => {
            let queue = stream.destinations().find_map(|to| to.queue());
            queue.map_or_else(|| to.to_string(), |queue| queue.to_string())
        }
        (false, all) => {
            let ends = [all.first(), all.last()].into_iter().flatten();
            let ends: Vec<String> = ends.map(ToString::to_string).collect();
            format!("{} destinations, {}", all.len(), ends.join(" to "))
        }
    };
    let transport = plan.transport();
    format!(
        "sending   {heaps} of {heap} to {to}\n          over {} ({})",
        transport.backend(),
        transport.reason
    )
}

/// Fills the batches of a stream from a source.
struct Filler {
    source: Box<dyn Source>,
    /// Which heap of the source a heap of this sender's is.
    rank: Option<doorbell::settings::Rank>,
    is_attached: bool,
    frame_number: bool,
    /// Timestamps wrap here: what the flavour's immediates hold.
    most: u64,
    /// What ends sources that are read as they come.
    ended: Stop,
    /// Bytes of a heap that never was whole.
    partial: usize,
}

type Ended = Result<doorbell::stream::Report, Broken>;

impl Filler {
    fn new(plan: &StreamPlan, source: Box<dyn Source>, frame_number: bool, ended: Stop) -> Self {
        Self {
            source,
            rank: plan.settings().senders.heaps(),
            is_attached: plan.layout() == Layout::Attached,
            frame_number,
            most: plan.settings().stream.flavour.max_value(),
            ended,
            partial: 0,
        }
    }

    /// Sends all of the source, and closes the stream. Returns what became of it, of the source, and of
    /// samples that were converted.
    fn send(
        mut self,
        mut stream: Stream,
        stop: &Stop,
    ) -> (Ended, Result<(), SourceError>, Option<doorbell::pack::Loss>) {
        let outcome = self.send_heaps(&mut stream);
        let is_ended = stream.is_ended();
        let ended = stream.close();
        let missing = match &ended {
            Ok(report) => report.heaps_unsubmitted,
            Err(broken) => broken.report.heaps_unsubmitted,
        };
        if missing > 0 && outcome.is_ok() && !stop.is_raised() {
            match is_ended {
                true => tracing::error!("{missing} heaps were not submitted"),
                false => tracing::warn!("the source ended {missing} heaps early"),
            }
        }
        (ended, outcome, self.source.loss())
    }

    fn send_heaps(&mut self, stream: &mut Stream) -> Result<(), SourceError> {
        while let Some(mut batch) = stream.idle() {
            let (first, wanted) = (stream.submitted(), stream.room());
            let (filled, goes_on) = self.fill_batch(&mut batch, first, wanted)?;
            self.check(first, filled.into())?;
            if filled > 0
                && let Err(rejected) = stream.submit(batch, filled)
            {
                tracing::error!(%rejected, "heaps were not sent");
                break;
            }
            if !goes_on {
                return match stream.submitted() {
                    0 if !self.ended.is_raised() => Err(SourceError::NoHeap {
                        bytes: self.partial,
                        heap_len: self.source.taken_len(),
                    }),
                    _ => Ok(()),
                };
            }
        }
        Ok(())
    }

    /// Fills heaps until there are as many as wanted, the source ends, or it has no more for now. Returns how
    /// many there are, and whether the source goes on.
    fn fill_batch(
        &mut self,
        batch: &mut Batch,
        first: u64,
        wanted: u32,
    ) -> Result<(u32, bool), SourceError> {
        for heap in 0..wanted {
            // What was read already does not wait for what is yet to come.
            let filled = self.fill(batch, heap, first + u64::from(heap), heap == 0)?;
            match filled {
                Filled::Whole => {}
                Filled::End => return Ok((heap, false)),
                Filled::Stalled(mut bytes) => {
                    for chunk in batch.payload(heap).chunks() {
                        let kept = bytes.min(chunk.len());
                        self.source.put_back(&chunk[..kept]);
                        bytes -= kept;
                    }
                    return Ok((heap, true));
                }
                Filled::Partial(bytes) => {
                    self.partial = bytes;
                    if !self.ended.is_raised() && first + u64::from(heap) > 0 {
                        let len = self.source.taken_len();
                        tracing::warn!(
                            "the source ended in the middle of a heap: its last {bytes} bytes, of \
                             {len} that a heap has, were not sent"
                        );
                    }
                    return Ok((heap, false));
                }
            }
        }
        Ok((wanted, true))
    }

    /// Puts heap `own` of this sender's into a batch.
    fn fill(
        &mut self,
        batch: &mut Batch,
        heap: u32,
        own: u64,
        may_wait: bool,
    ) -> Result<Filled, SourceError> {
        let index = self.index(own);
        let len = self.source.heap_len();
        let attached = self.source.mapped().filter(|_| self.is_attached);
        let filled = match attached.map(|mapped| mapped.place(index)) {
            Some(Some(place)) if batch.attach(heap, place.memory, place.offset) => Filled::Whole,
            Some(_) => Filled::End,
            None => self.source.fill(index, batch.payload(heap), may_wait)?,
        };
        if filled == Filled::Whole {
            let timestamp = index.wrapping_mul(len as u64) & self.most;
            let numbers = [(TIMESTAMP_ITEM, timestamp), (FRAME_NUMBER_ITEM, index & self.most)];
            let count = if self.frame_number { 2 } else { 1 };
            for (id, value) in &numbers[..count] {
                batch.set_immediate(heap, *id, *value).expect("the heap has it, and it fits");
            }
        }
        Ok(filled)
    }

    /// Whether what `heaps` heaps from heap `first` of this sender's were made of is still there.
    fn check(&self, first: u64, heaps: u64) -> Result<(), SourceError> {
        match first.checked_add(heaps.wrapping_sub(1)).filter(|_| heaps > 0) {
            Some(last) => self.source.check(self.index(first)..self.index(last) + 1),
            None => Ok(()),
        }
    }

    fn index(&self, own: u64) -> u64 {
        self.rank.map_or(own, |rank| rank.nth(own))
    }
}
