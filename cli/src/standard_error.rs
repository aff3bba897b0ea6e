//! Standard error, which may be slow, full, stopped or gone, and ends nothing.
//!
//! A thread of its own writes there. Whoever has something to say leaves it in a queue and goes on: neither a
//! terminal that Ctrl-S has stopped nor a disk that hangs nor a pipe that nobody reads holds up a stream.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Arguments;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::ProgressDrawTarget;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// Writes to the queue. Never fails: there is nowhere to say so.
#[derive(Clone, Copy, Debug)]
pub struct StandardError;

/// Writes a line, above the progress bar if there is one.
pub fn line(text: Arguments<'_>) {
    put(above_bar(format!("{text}\n").into_bytes()).as_slice());
}

/// Where lines of the log go: above the progress bar, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        put(&above_bar(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that take the place of the bar, which is one line without an end and is drawn again below.
fn above_bar(mut lines: Vec<u8>) -> Vec<u8> {
    if HAS_BAR.load(Ordering::Relaxed) {
        lines.splice(..0, *ERASE_LINE);
    }
    lines
}

/// Starts the thread that writes. Without it, everybody writes for themselves.
pub fn start() {
    let writer = thread::Builder::new().name("standard error".into()).spawn(deliver);
    lock().is_served = writer.is_ok();
    // A thread that panics must not hang there, either, with others waiting for its end.
    panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        let trace = Some(trace).filter(|trace| trace.status() == BacktraceStatus::Captured);
        let trace = trace.map_or_else(String::new, |trace| format!("\n{trace}"));
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        line(format_args!("doorbell: a defect: thread `{name}` {panic}{trace}"));
        settle();
    }));
}

/// Waits until all is written, for as long as a reader that is merely slow takes.
pub fn settle() {
    let is_awaited = |queue: &mut Queue| {
        queue.is_served && !queue.is_stalled && (queue.is_writing || !queue.is_empty())
    };
    let (stderr, begin, mut queue) = (io::stderr(), Instant::now(), lock());
    loop {
        let waited = CHANGED.wait_timeout_while(queue, PATIENCE, is_awaited);
        let (awaited, result) = waited.unwrap_or_else(PoisonError::into_inner);
        queue = awaited;
        if !result.timed_out() {
            return;
        }
        // Where there is room, it is the thread that has not come to it: on a machine that is busy.
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let has_room = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if !has_room || begin.elapsed() >= LONGEST_PATIENCE {
            queue.is_stalled = true;
            return;
        }
    }
}

/// Where progress is drawn: standard error if that is a terminal and `is_shown`.
pub fn draw_target(is_shown: bool, draws_per_second: u8) -> ProgressDrawTarget {
    HAS_BAR.store(is_shown && io::stderr().is_terminal(), Ordering::Relaxed);
    match is_shown {
        // Hidden, too, if it is no terminal.
        true => ProgressDrawTarget::term(
            Term::read_write_pair(StandardError, StandardError),
            draws_per_second,
        ),
        false => ProgressDrawTarget::hidden(),
    }
}

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nobody answers: [`Term`] asks for a way back.
impl Read for StandardError {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl AsRawFd for StandardError {
    fn as_raw_fd(&self) -> RawFd {
        io::stderr().as_raw_fd()
    }
}

/// What is to be written.
struct Queue {
    bytes: Vec<u8>,
    /// Pieces that found no room since.
    lost: u64,
    is_served: bool,
    is_writing: bool,
    /// Whether it was waited for in vain since something was last written.
    is_stalled: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lost == 0
    }
}

/// Writes text as it is, or leaves it out if there is too much already.
pub fn put(bytes: &[u8]) {
    let mut queue = lock();
    if !queue.is_served {
        drop(queue);
        let _ = write_all(io::stderr(), bytes);
    } else if queue.lost == 0 && queue.bytes.len() + bytes.len() <= CAPACITY {
        queue.bytes.extend_from_slice(bytes);
        drop(queue);
        CHANGED.notify_all();
    } else {
        queue.lost += 1;
    }
}

/// Writes what comes, for as long as the program runs.
fn deliver() {
    let mut bytes = Vec::new();
    loop {
        let mut queue = lock();
        (queue.is_writing, queue.is_stalled) = (false, false);
        CHANGED.notify_all();
        let is_idle = |queue: &mut Queue| queue.is_empty();
        queue = CHANGED.wait_while(queue, is_idle).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut bytes, &mut queue.bytes);
        let lost = std::mem::take(&mut queue.lost);
        queue.is_writing = true;
        drop(queue);
        if lost > 0 {
            bytes.extend(
                format!("doorbell: {lost} more lines, for which there was no room\n").bytes(),
            );
        }
        let _ = write_all(io::stderr(), &bytes);
        bytes.clear();
    }
}

/// Writes all of `bytes`, whether or not the other side is to be waited for: others may have set O_NONBLOCK on
/// what they share with this program.
pub fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(&to, bytes) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                // What it says, the next write finds out.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    bytes: Vec::new(),
    lost: 0,
    is_served: false,
    is_writing: false,
    is_stalled: false,
});
/// Whether a progress bar may be drawn.
static HAS_BAR: AtomicBool = AtomicBool::new(false);
/// ECMA-48: carriage return, and EL of the whole line.
const ERASE_LINE: &[u8; 5] = b"\r\x1b[2K";
/// Something was put into the queue, or all of it is written.
static CHANGED: Condvar = Condvar::new();
/// Thousands of lines.
const CAPACITY: usize = 1 << 20;
/// With whoever reads.
const PATIENCE: Duration = Duration::from_secs(1);
/// With the thread that writes.
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);
