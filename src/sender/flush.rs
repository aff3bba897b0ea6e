//! The wait for the other side's acknowledgement.

use std::thread;
use std::time::{Duration, Instant};

use super::Sender;

/// What is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unacknowledged {
    pub(crate) bytes: u64,
    /// For how long it has been as many.
    pub(crate) silence: Duration,
}

impl Sender {
    /// Blocks until the other side has acknowledged all that was sent, where the protocol has it say so,
    /// or has acknowledged nothing for as long as `silence`:
    /// [`Counters::unacknowledged`](crate::backend::Counters::unacknowledged) tells which.
    pub fn flush(&mut self, silence: Duration) {
        self.flush_unless(|left| left.silence >= silence);
    }

    /// Blocks until all is acknowledged, the connection is lost, or `is_over` says that it is enough.
    pub(crate) fn flush_unless(&mut self, mut is_over: impl FnMut(Unacknowledged) -> bool) {
        let (mut last, mut since, mut pause) = (u64::MAX, Instant::now(), SHORTEST_PAUSE);
        while let Some(backend) = &mut self.backend {
            let bytes = match backend.unacknowledged() {
                Ok(0) => return,
                Ok(bytes) => bytes,
                Err(error) => return self.fail(error),
            };
            if bytes != last {
                (last, since) = (bytes, Instant::now());
            }
            if is_over(Unacknowledged { bytes, silence: since.elapsed() }) {
                return;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Nobody tells when the last byte is acknowledged.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
