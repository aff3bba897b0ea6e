//! `doorbell recv`.

mod figures;
mod frames;
mod inlet;
mod npy;
mod origin;
mod picture;
mod progress;
mod reader;
mod report;
mod stack;
mod store;
mod verification;

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use doorbell::receive::{Heap, ReceiveError, Window, WindowConfig};
use doorbell::sender::Stop;

use self::figures::Figures;
use self::inlet::Inlet;
pub use self::origin::Origin;
pub use self::picture::Picture;
use self::progress::RecvProgress;
use self::reader::Reader;
use self::report::{Ending, Reading, RecvReport};
pub use self::store::{Store, StoreError};
use super::args::RecvArguments;
use super::exit::{Failure, HEAPS_FAILED, INTERRUPTED};
use super::json;
use super::signals::interruption;
use super::standard_error;
use super::threads;

/// Receives a stream, and says what came of it.
pub fn run(arguments: &RecvArguments) -> Result<ExitCode, Failure> {
    let inlet = Inlet::open(arguments)?;
    let reader = Reader::open(arguments)?;
    let interruption = interruption()?;
    let announcement = inlet.announcement();
    match (arguments.quiet, arguments.json) {
        (true, _) => {}
        // Who starts this is to know the port, and standard output has one JSON object and nothing else.
        (false, true) => standard_error::line(format_args!("{announcement}")),
        (false, false) => say!("{announcement}"),
    }
    let window = Window::new(WindowConfig {
        heaps: arguments.window as usize,
        max_heap_len: usize::try_from(arguments.max_heap.bytes()).unwrap_or(usize::MAX),
        substreams: inlet.substreams(),
    });
    let window = match arguments.first_cnt {
        Some(first_cnt) => window.beginning_at(first_cnt),
        None => window,
    };
    let mut session = Session {
        inlet,
        window,
        reader: ReaderThread::start(reader)?,
        progress: RecvProgress::new(arguments.heaps, arguments.quiet),
        figures: Figures::serve(arguments.metrics.as_ref())?,
        interruption,
        begin: None,
        latest: Instant::now(),
    };
    let ending = session.receive(arguments);
    let (report, read) = session.finish(arguments, ending);
    if !arguments.quiet && !arguments.json {
        report.print();
    }
    if arguments.json {
        say!("{}", json::line(&report)?);
    }
    Ok(match read {
        Err(error) => {
            standard_error::line(format_args!("doorbell: {error}"));
            ExitCode::from(HEAPS_FAILED)
        }
        Ok(()) if report.ended == Ending::Interrupted => ExitCode::from(INTERRUPTED),
        Ok(()) if report.is_success() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(HEAPS_FAILED),
    })
}

/// A stream on its way in: packets are taken in on this thread, and heaps are read on
/// another, so that a slow disk does not have the kernel drop packets.
struct Session {
    inlet: Inlet,
    window: Window,
    reader: ReaderThread,
    progress: RecvProgress,
    figures: Figures,
    interruption: Stop,
    /// When the first packet came.
    begin: Option<Instant>,
    /// When the last one came, or listening began.
    latest: Instant,
}

impl Session {
    /// Receives until there is a reason to end.
    fn receive(&mut self, arguments: &RecvArguments) -> Result<Ending, ReceiveError> {
        self.latest = Instant::now();
        loop {
            let stopped = self.inlet.is_over(&self.window);
            // Packets may have overtaken each other: what is on the way when the stream stops counts.
            let patience = match stopped {
                true if self.window.is_waiting() => GRACE,
                true => Duration::ZERO,
                false => PATIENCE.min(arguments.timeout.unwrap_or(PATIENCE)),
            };
            let datagrams = self.inlet.receive(&mut self.window, patience)?;
            if datagrams > 0 {
                self.latest = Instant::now();
                self.begin.get_or_insert(self.latest);
            } else if !self.inlet.is_file() {
                self.window.settle();
            }
            self.hand_over();
            self.figures.note(&self.window, || self.inlet.dropped());
            if self.interruption.is_raised() {
                return Ok(Ending::Interrupted);
            }
            if arguments.heaps.is_some_and(|heaps| self.window.whole() >= heaps) {
                return Ok(Ending::Heaps);
            }
            if self.reader.is_closed() {
                return Ok(Ending::Failed);
            }
            if stopped && datagrams == 0 {
                return Ok(match self.window.tally().has_ended() {
                    true => Ending::Stopped,
                    false => Ending::Closed,
                });
            }
            if arguments.timeout.is_some_and(|timeout| self.latest.elapsed() >= timeout) {
                return Ok(Ending::Timeout);
            }
            self.progress.received(&self.window);
        }
    }

    /// Gives heaps that are whole to the reader, and waits for it if it has as many as may be out.
    fn hand_over(&mut self) {
        while let Some(heap) = self.window.take() {
            self.reader.give(heap);
        }
        self.reader.returned().for_each(|heap| self.window.give_back(heap));
        while self.window.is_exhausted()
            && !self.reader.is_closed()
            && !self.interruption.is_raised()
        {
            if let Some(heap) = self.reader.wait() {
                self.window.give_back(heap);
            }
        }
    }

    /// Reads what is left, and says what came of it all.
    fn finish(
        mut self,
        arguments: &RecvArguments,
        ending: Result<Ending, ReceiveError>,
    ) -> (RecvReport, Result<(), Failure>) {
        let (ended, received) = match ending {
            Ok(ended) => (ended, Ok(())),
            Err(error) => (Ending::Failed, Err(error.into())),
        };
        match ended {
            Ending::Heaps | Ending::Interrupted => self.window.abandon(),
            _ => self.window.finish(),
        }
        self.hand_over();
        self.progress.finish();
        self.figures.take(&self.window, || self.inlet.dropped());
        let elapsed = self.begin.map_or(Duration::ZERO, |begin| self.latest - begin);
        let mut tally = self.window.tally();
        tally.heaps = tally.heaps.min(arguments.heaps.unwrap_or(u64::MAX));
        let (reading, read) = self.reader.finish(&self.interruption);
        let report = RecvReport::new(ended, tally, &self.inlet, elapsed, reading, arguments.heaps);
        (report, received.and(read))
    }
}

/// Where heaps are read, on a thread of its own: they go there, and come back.
struct ReaderThread {
    heaps: Sender<Heap>,
    back: Receiver<Heap>,
    thread: JoinHandle<(Reader, Result<(), StoreError>)>,
}

impl ReaderThread {
    fn start(mut reader: Reader) -> Result<Self, Failure> {
        let (heaps, queue) = channel::<Heap>();
        let (done, back) = channel();
        let thread = threads::start("frames", move || {
            loop {
                // Files are kept up to date while nothing comes, too.
                let read = match queue.recv_timeout(reader.patience().unwrap_or(Duration::MAX)) {
                    Ok(heap) => {
                        let read = reader.read(&heap);
                        // Who does not take it back ends, too.
                        let _ = done.send(heap);
                        read
                    }
                    Err(RecvTimeoutError::Timeout) => reader.rest(),
                    Err(RecvTimeoutError::Disconnected) => return (reader, Ok(())),
                };
                if read.is_err() {
                    return (reader, read);
                }
            }
        })?;
        Ok(Self { heaps, back, thread })
    }

    /// Whether the reader has given up.
    fn is_closed(&self) -> bool {
        self.thread.is_finished()
    }

    fn give(&self, heap: Heap) {
        // Nobody is there to take it: that is found out at the end of each round.
        let _ = self.heaps.send(heap);
    }

    fn returned(&self) -> impl Iterator<Item = Heap> {
        self.back.try_iter()
    }

    fn wait(&self) -> Option<Heap> {
        self.back.recv_timeout(PATIENCE).ok()
    }

    /// Waits until all is read, unless it is to be given up.
    fn finish(self, interruption: &Stop) -> (Reading, Result<(), Failure>) {
        drop(self.heaps);
        while !self.thread.is_finished() {
            if interruption.is_aborted() {
                return (Reading::default(), Err(Failure::Unwritten));
            }
            // What comes back is dropped. Nothing does any more once the thread is about to end.
            if let Err(RecvTimeoutError::Disconnected) = self.back.recv_timeout(PATIENCE) {
                break;
            }
        }
        match self.thread.join() {
            Ok((reader, read)) => {
                let (reading, closed) = reader.finish();
                (reading, read.and(closed).map_err(Failure::from))
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// How long a signal or a timeout may go unnoticed.
const PATIENCE: Duration = Duration::from_millis(100);
/// How much later than the stop heap a packet may come.
const GRACE: Duration = Duration::from_millis(200);
