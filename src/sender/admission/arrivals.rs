//! Holds packets back until a receiver in the same process has room for them, so that loopback, which drops
//! what a socket's buffer has no room for, loses nothing.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::Admission;
use crate::backend::wait::Wait;
use crate::region::InFlight;

/// Admits a window of packets beyond those that a receiver has counted.
pub struct Arrivals {
    window: u64,
    admitted: u64,
    arrived: Box<dyn Fn() -> u64 + Send>,
    /// When the last packets were admitted that there was room for, and how many had arrived then.
    closed: Option<(Instant, u64)>,
}

impl Arrivals {
    /// At most `window` packets, and at least one, are on the way beyond those that `arrived` counts.
    pub fn new(window: u64, arrived: impl Fn() -> u64 + Send + 'static) -> Self {
        Self { window: window.max(1), admitted: 0, arrived: Box::new(arrived), closed: None }
    }

    fn room(&self, arrived: u64) -> u64 {
        self.window.saturating_sub(self.admitted.saturating_sub(arrived))
    }

    /// What does not arrive for long never will: the receiver will say which heaps it was of.
    fn forget_lost(&mut self, arrived: u64) {
        match self.closed {
            Some((since, before)) if before == arrived => {
                if since.elapsed() > LOST {
                    tracing::warn!("{} packets did not arrive", self.admitted - arrived);
                    self.admitted = arrived;
                }
            }
            _ => self.closed = Some((Instant::now(), arrived)),
        }
    }
}

impl Admission for Arrivals {
    fn admit(&mut self, _: &InFlight, packets: Range<u32>) -> u32 {
        let arrived = (self.arrived)();
        if self.room(arrived) == 0 {
            self.forget_lost(arrived);
        }
        let room = self.room(arrived).try_into().unwrap_or(u32::MAX);
        let admitted = room.min(packets.end - packets.start);
        if admitted > 0 {
            self.closed = None;
            self.admitted += u64::from(admitted);
        }
        admitted
    }

    fn prepare_wait(&mut self, wait: &mut Wait) {
        match self.room((self.arrived)()) {
            // Nobody tells of arrivals.
            0 => wait.at_most(LOOK_AGAIN),
            _ => wait.not_at_all(),
        }
    }
}

/// A receiver takes tens of packets in this time.
const LOOK_AGAIN: Duration = Duration::from_micros(20);
/// Loopback delivers at once; what has not arrived by then never will.
const LOST: Duration = Duration::from_secs(2);
