//! A server for a few scrapers, of which none can keep it busy for long, or have it take memory.
//!
//! One thread serves all connections. Each has a second for a request and its answer, and is closed then. When
//! there are as many as there may be, the oldest makes room: whoever asks at once is answered, however many others
//! hold connections and ask nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exposition::Metric;
use super::request;
use crate::config::ListenAddress;
use crate::exit::Failure;

/// What listens for scrapers.
pub struct Server {
    address: ListenAddress,
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Listens at all addresses that there are of a name.
    pub fn bind(address: &ListenAddress) -> Result<Self, Failure> {
        let wrong = |reason: String| Failure::Metrics { address: address.to_string(), reason };
        let (mut listeners, mut last) = (Vec::new(), None);
        for address in address.resolve().map_err(|error| wrong(error.to_string()))? {
            let address = match listeners.first().and_then(|it: &TcpListener| it.local_addr().ok())
            {
                // A port that the kernel has picked is that of all.
                Some(first) => SocketAddr::new(address.ip(), first.port()),
                None => address,
            };
            match TcpListener::bind(address) {
                Ok(listener) => {
                    listener.set_nonblocking(true).map_err(|error| wrong(error.to_string()))?;
                    listeners.push(listener);
                }
                // Of a name, perhaps, only one family is there.
                Err(error)
                    if error.kind() == ErrorKind::AddrNotAvailable || is_without_family(&error) =>
                {
                    last = Some(error);
                }
                Err(error) => return Err(wrong(error.to_string())),
            }
        }
        if listeners.is_empty() {
            let reason = last.map_or("it has no address".into(), |error| error.to_string());
            return Err(wrong(reason));
        }
        for address in listeners.iter().filter_map(|it| it.local_addr().ok()) {
            tracing::info!("figures are at http://{address}/metrics");
        }
        Ok(Self { address: address.clone(), listeners })
    }

    /// Serves what `metrics` returns, for as long as the program runs: nobody waits for the end of it.
    pub fn serve(self, metrics: impl Fn() -> Vec<Metric> + Send + 'static) -> Result<(), Failure> {
        let Self { address, listeners } = self;
        let serve =
            move || Service { listeners, connections: Vec::new(), rests_until: None }.run(&metrics);
        let started = thread::Builder::new().name("metrics".into()).spawn(serve);
        started.map(|_| ()).map_err(|error| Failure::Metrics {
            address: address.to_string(),
            reason: format!("no thread can be started: {error}"),
        })
    }
}

/// Listeners and those whom they let in, the oldest first.
struct Service {
    listeners: Vec<TcpListener>,
    connections: Vec<Connection>,
    /// Until when nobody is let in, for want of descriptors.
    rests_until: Option<Instant>,
}

impl Service {
    fn run(mut self, metrics: &dyn Fn() -> Vec<Metric>) {
        loop {
            self.wait();
            let now = Instant::now();
            self.connections.retain_mut(|it| now < it.deadline && it.go_on(metrics));
            if self.rests_until.is_none_or(|until| now >= until) {
                self.rests_until = None;
                self.let_in(metrics);
            }
        }
    }

    /// Waits for someone to do something, or for a deadline.
    fn wait(&self) {
        let rests = self.rests_until;
        let listening = self.listeners.iter().filter(|_| rests.is_none());
        let listening = listening.map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN));
        let connected =
            self.connections.iter().map(|it| PollFd::new(it.stream.as_fd(), it.awaited()));
        let mut fds: Vec<PollFd<'_>> = listening.chain(connected).collect();
        let deadline = self.connections.iter().map(|it| it.deadline).chain(rests).min();
        let limit = deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that it does not spin.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        if poll(&mut fds, limit).is_err_and(|errno| errno != Errno::EINTR) {
            // For want of memory, poll(2), which may be there again.
            thread::sleep(REST);
        }
    }

    fn let_in(&mut self, metrics: &dyn Fn() -> Vec<Metric>) {
        for listener in 0..self.listeners.len() {
            // No more at a time, so that those who are in are served between.
            for _ in 0..MOST_CONNECTIONS {
                match self.listeners[listener].accept() {
                    Ok((stream, _)) => self.welcome(stream, metrics),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // Without a descriptor left: whoever came first has had their time.
                    Err(_) if !self.connections.is_empty() => drop(self.connections.remove(0)),
                    Err(_) => {
                        self.rests_until = Some(Instant::now() + REST);
                        return;
                    }
                }
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, metrics: &dyn Fn() -> Vec<Metric>) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() == MOST_CONNECTIONS {
            self.connections.remove(0);
        }
        let deadline = Instant::now() + LONGEST_CONNECTION;
        let mut connection = Connection { stream, deadline, state: State::Asking(Vec::new()) };
        // The request comes with the connection, mostly.
        if connection.go_on(metrics) {
            self.connections.push(connection);
        }
    }
}

/// Someone who asks.
struct Connection {
    stream: TcpStream,
    deadline: Instant,
    state: State,
}

enum State {
    /// What came of the request.
    Asking(Vec<u8>),
    /// The answer, and how much of it is gone.
    Answered(Vec<u8>, usize),
    /// How much came that nobody wanted. To close with it unread would be a reset, which may overtake the answer:
    /// RFC 1122, 4.2.2.13.
    Ending(usize),
}

impl Connection {
    fn awaited(&self) -> PollFlags {
        match self.state {
            State::Asking(_) | State::Ending(_) => PollFlags::POLLIN,
            State::Answered(..) => PollFlags::POLLOUT,
        }
    }

    /// Goes on as far as it can without waiting. False once it is over.
    fn go_on(&mut self, metrics: &dyn Fn() -> Vec<Metric>) -> bool {
        loop {
            match self.step(metrics) {
                Ok(true) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(false) | Err(_) => return false,
            }
        }
    }

    fn step(&mut self, metrics: &dyn Fn() -> Vec<Metric>) -> io::Result<bool> {
        let Self { stream, state, .. } = self;
        let mut bytes = [0; LONGEST_REQUEST];
        match state {
            State::Asking(head) => {
                let read = stream.read(&mut bytes[head.len()..])?;
                head.extend_from_slice(&bytes[head.len()..][..read]);
                let is_full = head.len() == LONGEST_REQUEST;
                let answer = request::answer(head, metrics);
                if let Some(answer) = answer.or_else(|| is_full.then(request::too_long)) {
                    *state = State::Answered(answer, 0);
                }
                Ok(read > 0)
            }
            State::Answered(answer, sent) => {
                let written = stream.write(&answer[*sent..])?;
                *sent += written;
                if *sent == answer.len() {
                    // If it is gone already, the next read says so.
                    let _ = stream.shutdown(Shutdown::Write);
                    *state = State::Ending(0);
                }
                Ok(written > 0)
            }
            State::Ending(unwanted) => {
                let read = stream.read(&mut bytes)?;
                *unwanted += read;
                Ok(read > 0 && *unwanted < MOST_UNWANTED)
            }
        }
    }
}

/// Whether the kernel knows no such addresses: one without IPv6, say.
fn is_without_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

const MOST_CONNECTIONS: usize = 8;
const LONGEST_CONNECTION: Duration = Duration::from_secs(1);
const LONGEST_REQUEST: usize = 4096;
const MOST_UNWANTED: usize = 64 << 10;
/// When there are no descriptors.
const REST: Duration = Duration::from_millis(100);
