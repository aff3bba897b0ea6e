//! `doorbell recv`.

mod frames;
mod progress;
mod reader;
mod report;
mod verification;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use doorbell::backend::OpenError;
use doorbell::backend::interface::Interface;
use doorbell::config::Endpoint;
use doorbell::receive::{Heap, Listener, ReceiveError, Window, WindowConfig};
use indicatif::HumanBytes;

use self::progress::Progress;
use self::reader::Reader;
use self::report::{Ending, Report};
use super::args::RecvArguments;
use super::exit::{Failure, HEAPS_FAILED, INTERRUPTED};
use super::send::interruption;

/// Receives a stream, and says what came of it.
pub fn run(arguments: &RecvArguments) -> Result<ExitCode, Failure> {
    let addresses = resolve(&arguments.from)?;
    let interface = arguments.interface.as_ref().map(|it| Interface::find(&it.to_string()));
    let interface = interface.transpose()?;
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let listener = Listener::bind(&addresses, interface.as_ref(), bytes(arguments.buffer.bytes()))?;
    let reader = Reader::open(arguments)?;
    let interrupted = interruption()?;
    if !arguments.quiet {
        announce(&listener);
    }
    let window = Window::new(WindowConfig {
        heaps: arguments.window as usize,
        max_heap_len: bytes(arguments.max_heap.bytes()),
        substreams: addresses.len(),
    });
    let mut session = Session {
        listener,
        window,
        desk: Desk::start(reader),
        progress: Progress::new(arguments.heaps, arguments.quiet),
        begin: None,
        latest: Instant::now(),
    };
    let ending = session.receive(arguments, &interrupted);
    let (report, read) = session.finish(arguments, ending);
    if !arguments.quiet {
        report.print();
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&report).map_err(|e| Failure::Usage(e.to_string()))?);
    }
    Ok(match read {
        Err(error) => {
            eprintln!("doorbell: {error}");
            ExitCode::from(HEAPS_FAILED)
        }
        Ok(()) if report.ended == Ending::Interrupted => ExitCode::from(INTERRUPTED),
        Ok(()) if report.is_success() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(HEAPS_FAILED),
    })
}

fn announce(listener: &Listener) {
    let addresses: Vec<String> = listener.local_addrs().map(|addr| addr.to_string()).collect();
    let at = match addresses.as_slice() {
        [first, .., last] if addresses.len() > SHOWN => {
            format!("{} addresses, {first} to {last}", addresses.len())
        }
        all => all.join(", "),
    };
    println!("listening at {at}, with a buffer of {}", HumanBytes(listener.buffer() as u64));
}

fn resolve(endpoints: &[Endpoint]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for endpoint in endpoints.iter().flat_map(Endpoint::expand) {
        let host = endpoint.host().to_string();
        let error = |why: String| Failure::Open(OpenError::new("look up", &host, why));
        let mut found = (host.as_str(), endpoint.port())
            .to_socket_addrs()
            .map_err(|source| error(source.to_string()))?;
        addresses.push(found.next().ok_or_else(|| error("it has no address".into()))?);
    }
    Ok(addresses)
}

/// A stream on its way in: packets are taken from the sockets on this thread, and heaps are read on
/// another, so that a slow disk does not have the kernel drop packets.
struct Session {
    listener: Listener,
    window: Window,
    desk: Desk,
    progress: Progress,
    /// When the first packet came.
    begin: Option<Instant>,
    /// When the last one came, or listening began.
    latest: Instant,
}

impl Session {
    /// Receives until there is a reason to end.
    fn receive(
        &mut self,
        arguments: &RecvArguments,
        interrupted: &AtomicBool,
    ) -> Result<Ending, ReceiveError> {
        self.latest = Instant::now();
        loop {
            let stopped = self.window.is_stopped();
            // Packets may have overtaken each other: what is on the way when the stream stops counts.
            let patience = match stopped {
                true if self.window.is_waiting() => GRACE,
                true => Duration::ZERO,
                false => PATIENCE.min(arguments.timeout.unwrap_or(PATIENCE)),
            };
            let datagrams = self.listener.receive(&mut self.window, patience)?;
            if datagrams > 0 {
                self.latest = Instant::now();
                self.begin.get_or_insert(self.latest);
            } else {
                self.window.settle();
            }
            self.hand_over();
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ending::Interrupted);
            }
            if arguments.heaps.is_some_and(|heaps| self.window.whole() >= heaps) {
                return Ok(Ending::Heaps);
            }
            if self.desk.is_closed() {
                return Ok(Ending::Failed);
            }
            if stopped && datagrams == 0 {
                return Ok(Ending::Stopped);
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
            self.desk.give(heap);
        }
        self.desk.returned().for_each(|heap| self.window.give_back(heap));
        while self.window.is_exhausted() && !self.desk.is_closed() {
            if let Some(heap) = self.desk.wait() {
                self.window.give_back(heap);
            }
        }
    }

    /// Reads what is left, and says what came of it all.
    fn finish(
        mut self,
        arguments: &RecvArguments,
        ending: Result<Ending, ReceiveError>,
    ) -> (Report, Result<(), ReceiveError>) {
        let (ended, received) = match ending {
            Ok(ended) => (ended, Ok(())),
            Err(error) => (Ending::Failed, Err(error)),
        };
        match ended {
            Ending::Heaps | Ending::Interrupted => self.window.abandon(),
            _ => self.window.finish(),
        }
        self.hand_over();
        self.progress.finish();
        let elapsed = self.begin.map_or(Duration::ZERO, |begin| self.latest - begin);
        let addresses: Vec<SocketAddr> = self.listener.local_addrs().collect();
        let mut tally = self.window.tally();
        tally.heaps = tally.heaps.min(arguments.heaps.unwrap_or(u64::MAX));
        let (reading, read) = self.desk.finish();
        let report = Report::new(
            ended,
            tally,
            &addresses,
            self.listener.dropped(),
            elapsed,
            reading,
            arguments.heaps,
        );
        (report, received.and(read))
    }
}

/// Where heaps are read, on a thread of its own: they go there, and come back.
struct Desk {
    heaps: Sender<Heap>,
    back: Receiver<Heap>,
    thread: JoinHandle<(Reader, Result<(), ReceiveError>)>,
}

impl Desk {
    fn start(mut reader: Reader) -> Self {
        let (heaps, inbox) = channel::<Heap>();
        let (outbox, back) = channel();
        let thread = thread::spawn(move || {
            for heap in inbox {
                let read = reader.read(&heap);
                if read.is_err() || outbox.send(heap).is_err() {
                    return (reader, read);
                }
            }
            (reader, Ok(()))
        });
        Self { heaps, back, thread }
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

    fn finish(self) -> (report::Reading, Result<(), ReceiveError>) {
        drop(self.heaps);
        // What comes back is dropped; the channel has no bound, so nobody waits.
        match self.thread.join() {
            Ok((reader, read)) => {
                let (reading, closed) = reader.finish();
                (reading, read.and(closed))
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// How long a signal or a timeout may go unnoticed.
const PATIENCE: Duration = Duration::from_millis(100);
/// How much later than the stop heap a packet may come.
const GRACE: Duration = Duration::from_millis(200);
/// More addresses are not listed one by one.
const SHOWN: usize = 4;
