//! Wraps a backend and holds packets back until a receiver in the same process has room for them, so
//! that loopback, which drops what a socket's buffer has no room for, loses nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wait::Wait;
use super::{Backend, Caps, Counters, Done, OpenError, SendError};
use crate::pacer::Rate;
use crate::region::{Batch, InFlight, Region};

/// A backend that has at most so many packets on the way to a receiver that counts them.
pub struct Gate {
    inner: Box<dyn Backend>,
    window: u64,
    posted: u64,
    arrived: Box<dyn Fn() -> u64 + Send>,
    /// Whether it was the gate that the last post stopped at.
    held: bool,
    /// When the gate closed, and how many packets had arrived then.
    closed: Option<(Instant, u64)>,
}

impl Gate {
    /// Wraps a backend: at most `window` packets are posted beyond those that `arrived` counts.
    pub fn new(
        inner: Box<dyn Backend>,
        window: u64,
        arrived: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        Self {
            inner,
            window: window.max(1),
            posted: 0,
            arrived: Box::new(arrived),
            held: false,
            closed: None,
        }
    }

    fn room(&self) -> u32 {
        let on_the_way = self.posted.saturating_sub((self.arrived)());
        self.window.saturating_sub(on_the_way).try_into().unwrap_or(u32::MAX)
    }
}

#[expect(unsafe_code, reason = "the contract of the trait")]
// SAFETY: memory is read by the inner backend alone, whose word is passed on unchanged.
unsafe impl Backend for Gate {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.inner.register(region, batches)
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let end = packets.end.min(packets.start.saturating_add(self.room()));
        self.held = end < packets.end;
        if end == packets.start {
            return Ok(0);
        }
        let posted = self.inner.post(batch, packets.start..end)?;
        self.posted += u64::from(posted);
        self.held &= posted == end - packets.start;
        Ok(posted)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        self.inner.poll(done)
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        if !self.held {
            return self.inner.prepare_wait(wait);
        }
        if self.room() > 0 {
            self.closed = None;
            wait.not_at_all();
            return Ok(());
        }
        let arrived = (self.arrived)();
        match self.closed {
            Some((since, before)) if before == arrived => {
                if since.elapsed() > LOST {
                    // The receiver will say which heaps they were of.
                    tracing::warn!("{} packets did not arrive", self.posted - arrived);
                    self.posted = arrived;
                }
            }
            _ => self.closed = Some((Instant::now(), arrived)),
        }
        // Nobody tells of arrivals. Whatever the inner backend has to tell is early enough by then.
        wait.at_most(LOOK_AGAIN);
        Ok(())
    }

    fn pace(&mut self, rate: Rate) -> Result<bool, SendError> {
        self.inner.pace(rate)
    }

    fn flush(&mut self, silence: Duration) -> Result<(), SendError> {
        self.inner.flush(silence)
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

/// A receiver takes tens of packets in this time.
const LOOK_AGAIN: Duration = Duration::from_micros(20);
/// Loopback delivers at once; what has not arrived by then never will.
const LOST: Duration = Duration::from_secs(2);
