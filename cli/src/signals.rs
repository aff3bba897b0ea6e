//! Signals that ask for an end: SIGINT, SIGTERM, SIGHUP.
//!
//! They are held back from the first line of the program on, so that none comes before there is somebody to heed
//! it, and a thread waits for them. What runs is asked to end; if it does not within a while, or at a second
//! signal, to give up what is under way; and if it is stuck somewhere, the program ends without it.

use std::fs;
use std::os::fd::AsFd;
use std::process;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use doorbell::sender::Stop;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::exit::{Failure, INTERRUPTED};
use super::standard_error;

/// What is to be ended in order.
pub struct Attendant {
    /// Has it end.
    pub stop: Box<dyn Fn() + Send>,
    /// Has it give up what is under way.
    pub abort: Box<dyn Fn() + Send>,
    /// What the end waits for, in words; `None` while nothing is under way yet.
    pub awaited: Box<dyn Fn() -> Option<String> + Send>,
    /// How long it waits, after the first signal.
    pub patience: Duration,
    /// How long giving up may take.
    pub last: Duration,
}

/// Who heeds signals.
enum State {
    /// It is not known yet which command runs.
    Starting,
    /// Nobody: they end the program.
    Default,
    Attended(Attendant),
    /// There is no thread, and why.
    Unavailable(String),
}

/// Holds signals back, before anything else is done: threads inherit that.
pub fn hold() {
    let begun = ending().thread_block().and_then(|()| {
        let signals = SignalFd::with_flags(&ending(), SfdFlags::SFD_CLOEXEC)?;
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || wait_and_end(&signals))
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    });
    if let Err(errno) = begun {
        release();
        *lock() = State::Unavailable(errno.to_string());
    }
}

/// Lets signals do what they do to any program, for a command that has nothing to end in order.
pub fn release() {
    *lock() = State::Default;
    CHANGED.notify_all();
    // It fails for no set that there is: pthread_sigmask(3).
    let _ = ending().thread_unblock();
}

/// From now on, signals end this.
pub fn attend(attendant: Attendant) -> Result<(), Failure> {
    let mut state = lock();
    if let State::Unavailable(why) = &*state {
        return Err(Failure::Usage(format!("cannot handle signals: {why}")));
    }
    *state = State::Attended(attendant);
    CHANGED.notify_all();
    Ok(())
}

/// What signals raise, for whoever looks at it every now and then.
pub fn interruption() -> Result<Stop, Failure> {
    let stop = Stop::new().map_err(|error| Failure::Usage(format!("no eventfd: {error}")))?;
    let (first, second) = (stop.clone(), stop.clone());
    attend(Attendant {
        stop: Box::new(move || first.raise()),
        abort: Box::new(move || second.abort()),
        awaited: Box::new(|| Some("what has come is written out".into())),
        patience: WRITING,
        last: LOOKING,
    })?;
    Ok(stop)
}

/// Waits for a signal, and ends what runs, one way or another.
fn wait_and_end(signals: &SignalFd) {
    let Some(first) = next(signals, None) else { return };
    let waiting = |state: &mut State| matches!(state, State::Starting);
    let state = CHANGED.wait_timeout_while(lock(), STARTING, waiting);
    let state = state.unwrap_or_else(PoisonError::into_inner).0;
    let State::Attended(attendant) = &*state else {
        drop(state);
        return die(first);
    };
    (attendant.stop)();
    let begin = Instant::now();
    let awaited = loop {
        match (attendant.awaited)() {
            Some(awaited) => break awaited,
            None if begin.elapsed() >= STARTING => {
                say(format_args!("{first}: nothing was sent yet"));
                standard_error::settle();
                process::exit(INTERRUPTED.into());
            }
            None => thread::sleep(GLANCE),
        }
    };
    let patience = attendant.patience;
    say(format_args!(
        "{first}: {awaited}, for {} s at most; a second signal ends that at once",
        patience.as_secs()
    ));
    next_but_echo(signals, begin, patience);
    (attendant.abort)();
    say(format_args!("enough: what is under way is given up"));
    next_but_echo(signals, Instant::now(), attendant.last);
    say(format_args!("something hangs, so there is no report"));
    standard_error::settle();
    process::exit(INTERRUPTED.into());
}

/// Waits for the next signal, or until `limit` is over. timeout(1) sends its signal to the program and then to its
/// group, which the program is in: what comes with the one before, at `begin`, is that one.
fn next_but_echo(signals: &SignalFd, begin: Instant, limit: Duration) {
    while next(signals, Some(limit.saturating_sub(begin.elapsed()))).is_some()
        && begin.elapsed() < ECHO
    {}
}

/// The next signal, or none within `limit`.
fn next(signals: &SignalFd, limit: Option<Duration>) -> Option<Signal> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up, so that it does not spin.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) => return None,
            Err(Errno::EINTR) => {}
            Err(_) => return None,
            Ok(_) => {
                let info = signals.read_signal().ok().flatten()?;
                return Signal::try_from(info.ssi_signo as i32).ok();
            }
        }
    }
}

/// Ends the program as that signal does.
fn die(signal: Signal) {
    standard_error::settle();
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
    // Whoever started the program may have had it ignore the signal.
    process::exit(128 + signal as i32);
}

/// Signals that ask for an end.
fn ending() -> SigSet {
    // What nohup(1) has set stays: whoever closes the terminal does not end the stream. SIGINT is ignored by what
    // shells run in the background, and it is how scripts end that.
    let others = [Signal::SIGTERM, Signal::SIGHUP].into_iter().filter(|&it| !is_ignored(it));
    others.fold(SigSet::from(Signal::SIGINT), |mut set, signal| {
        set.add(signal);
        set
    })
}

/// Whether a signal was ignored before the program began: `SigIgn` of proc_pid_status(5).
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 != 0)
}

fn say(text: std::fmt::Arguments<'_>) {
    standard_error::line(format_args!("doorbell: {text}"));
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

static STATE: Mutex<State> = Mutex::new(State::Starting);
static CHANGED: Condvar = Condvar::new();
/// Until the command has begun, if it does not hang in what it opens.
const STARTING: Duration = Duration::from_secs(1);
/// What comes within that time of a signal is no second one.
const ECHO: Duration = Duration::from_millis(200);
/// Files of what was received.
const WRITING: Duration = Duration::from_secs(10);
/// Until that is seen, and said.
const LOOKING: Duration = Duration::from_secs(3);
/// Between two looks at what has begun.
const GLANCE: Duration = Duration::from_millis(10);
