//! How a sender keeps to its rate.

use std::hint;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::pacer::{Pacer, Rate};

/// A pacer, the clock it runs by, and how well it was kept.
pub(super) struct Pacing {
    /// Of all batches that have none of their own.
    pub(super) rate: Option<Rate>,
    pacer: Pacer,
    start: Instant,
    /// When the last burst went, and how long after it the rate wants the next one.
    last: Option<(Duration, Duration)>,
    jitter: Histogram,
    /// Pauses no longer than that are not slept through.
    pub(super) min_sleep: Duration,
}

impl Pacing {
    pub(super) fn new() -> Self {
        Self {
            rate: None,
            pacer: Pacer::new(Rate::new(u64::MAX, u32::MAX)),
            start: Instant::now(),
            last: None,
            jitter: Histogram::new(),
            min_sleep: MIN_SLEEP,
        }
    }

    pub(super) fn jitter(&self) -> &Histogram {
        &self.jitter
    }

    /// Says that there was nothing to send until now.
    pub(super) fn resume(&mut self) {
        if self.pacer.resume(self.start.elapsed()) {
            self.last = None;
        }
    }

    /// The time if a burst at that rate may go now, else how long it may not.
    pub(super) fn begin(&mut self, rate: Rate) -> Result<Duration, Duration> {
        if rate != self.pacer.rate() {
            self.pacer.change_rate(rate);
        }
        let now = self.start.elapsed();
        match self.pacer.next().saturating_sub(now) {
            Duration::ZERO => Ok(now),
            pause => Err(pause),
        }
    }

    /// Says that `bytes` of those that count went at `now`.
    pub(super) fn spend(&mut self, now: Duration, bytes: u64) {
        if let Some((last, gap)) = self.last {
            self.jitter.record(now.saturating_sub(last).abs_diff(gap));
        }
        self.last = Some((now, self.pacer.time_of(bytes)));
        self.pacer.spend(now, bytes);
    }

    /// How much of a pause can be slept through; `None` if it is to be spun through.
    pub(super) fn sleep(&self, pause: Duration) -> Option<Duration> {
        // A sleep is late by its timer slack, 50 us by default (prctl(2)), and by as long as it takes to be
        // woken up: the rest is spun. Of a long one, the slack is a part (`select_estimate_accuracy()` in
        // Linux's fs/select.c), so that is slept through bit by bit.
        let sleep = pause.checked_sub(self.min_sleep).filter(|sleep| !sleep.is_zero())?;
        Some(sleep - sleep / SLACK)
    }
}

/// Passes a time that is too short to be slept through.
pub(super) fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        hint::spin_loop();
    }
}

/// What part of a sleep in ppoll(2) the slack is, of a thread that is niced: of others, a thousandth.
const SLACK: u32 = 200;
/// Longer than the usual timer slack and a wake-up together.
pub(crate) const MIN_SLEEP: Duration = Duration::from_micros(100);
