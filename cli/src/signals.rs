//! Signals that end a stream.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use doorbell::sender::Stop;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::exit::Failure;

/// A flag that SIGINT, SIGTERM and SIGHUP raise. A second one ends the program at once.
pub(super) fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in ending() {
        flag::register_conditional_default(signal, raised.clone())
            .and_then(|_| flag::register(signal, raised.clone()))
            .map_err(|error| failure(&error))?;
    }
    Ok(raised)
}

/// As [`interruption`], for a stream.
pub(super) fn stop() -> Result<Stop, Failure> {
    let stop = Stop::new().map_err(|error| failure(&error))?;
    interruption()?;
    let mut signals = Signals::new(ending()).map_err(|error| failure(&error))?;
    let raised = stop.clone();
    // It waits for as long as the program runs.
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(|_| raised.raise()))
        .map_err(|error| failure(&error))?;
    Ok(stop)
}

fn failure(error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot handle signals: {error}"))
}

/// Signals that ask for an end.
fn ending() -> impl Iterator<Item = i32> {
    // What nohup(1) has set stays: whoever closes the terminal does not end the stream.
    let hangup = (!ignores_hangup()).then_some(SIGHUP);
    [SIGINT, SIGTERM].into_iter().chain(hangup)
}

/// Whether SIGHUP was ignored before the program began: bit 0 of `SigIgn`, proc_pid_status(5).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|it| it & 1 != 0)
}
