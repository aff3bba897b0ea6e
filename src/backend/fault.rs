//! Wraps a backend and makes it misbehave, for tests: short posts, errors, late and reordered
//! completions, failure.

use std::ops::Range;
use std::sync::Arc;

use super::wait::Wait;
use super::{Backend, Caps, Counters, Done, OpenError, SendError};
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Memory, Region};

/// What goes wrong with one post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// At most this many packets are taken.
    Short(u32),
    /// At most this many packets are taken, and lost.
    Lose(u32),
    /// The post succeeds, but is said to be done only after this many further polls.
    Hold(u32),
    /// The backend fails for good.
    Break,
}

/// A backend that does to each post what it is told.
pub struct FaultInjector {
    inner: Box<dyn Backend>,
    faults: Box<dyn Iterator<Item = Fault> + Send>,
    /// What is held back, and for how many polls.
    held: Vec<(u32, Done)>,
    done: Vec<Done>,
    hold: u32,
    /// Whether it was a fault that cut the last post short.
    cut: bool,
    max_in_flight: u32,
    in_flight: u32,
}

impl FaultInjector {
    /// Wraps a backend: each post suffers the next fault, and none after the last.
    pub fn new(
        inner: Box<dyn Backend>,
        faults: impl Iterator<Item = Fault> + Send + 'static,
    ) -> Self {
        Self {
            max_in_flight: inner.caps().max_in_flight,
            inner,
            faults: Box::new(faults),
            held: Vec::new(),
            done: Vec::new(),
            hold: 0,
            cut: false,
            in_flight: 0,
        }
    }

    /// Has room for `packets` posted and not done, as a device's queue has. A post beyond it
    /// panics: the sender is to count.
    pub fn with_max_in_flight(mut self, packets: u32) -> Self {
        self.max_in_flight = packets;
        self
    }
}

#[expect(unsafe_code, reason = "the contract of the trait")]
// SAFETY: memory is read by the inner backend alone, whose word is passed on late, but never early;
// packets that are lost are never posted to it.
unsafe impl Backend for FaultInjector {
    fn caps(&self) -> Caps {
        Caps { max_in_flight: self.max_in_flight, ..self.inner.caps() }
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        self.inner.allocate(arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.inner.register(region, batches)
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let room = self.max_in_flight - self.in_flight;
        assert!(packets.len() <= room as usize, "{packets:?} were posted to room for {room}");
        let posted = self.post_at_fault(batch, packets)?;
        self.in_flight += posted;
        Ok(posted)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        self.collect()?;
        let before = done.len();
        // The latest first, which is an order that no backend here has by itself.
        for index in (0..self.held.len()).rev() {
            match &mut self.held[index].0 {
                0 => done.push(self.held.remove(index).1),
                polls => *polls -= 1,
            }
        }
        self.in_flight -= done[before..].iter().map(|done| done.packets.len() as u32).sum::<u32>();
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        if self.cut || !self.held.is_empty() {
            wait.not_at_all();
            return Ok(());
        }
        self.inner.prepare_wait(wait)
    }

    fn pace(&mut self, rate: Rate) -> Result<bool, SendError> {
        self.inner.pace(rate)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        self.inner.unacknowledged()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

impl FaultInjector {
    fn post_at_fault(
        &mut self,
        batch: &mut InFlight,
        packets: Range<u32>,
    ) -> Result<u32, SendError> {
        let first =
            |count: u32| packets.start..packets.end.min(packets.start.saturating_add(count));
        self.cut = false;
        match self.faults.next().unwrap_or(Fault::None) {
            Fault::None => self.inner.post(batch, packets),
            Fault::Short(count) => {
                let some = first(count);
                let asked = some.len() as u32;
                let is_short = some.end < packets.end;
                let posted = if asked > 0 { self.inner.post(batch, some)? } else { 0 };
                self.cut = is_short && posted == asked;
                Ok(posted)
            }
            Fault::Lose(count) => {
                let packets = first(count);
                let lost = packets.len() as u32;
                let error = Some(SendError::Injected);
                self.held.push((0, Done { slot: batch.slot(), packets, error }));
                Ok(lost)
            }
            Fault::Hold(polls) => {
                // What was done before is not held back.
                self.collect()?;
                self.hold = polls;
                let posted = self.inner.post(batch, packets);
                self.collect()?;
                self.hold = 0;
                posted
            }
            Fault::Break => Err(SendError::Injected),
        }
    }

    fn collect(&mut self) -> Result<(), SendError> {
        self.inner.poll(&mut self.done)?;
        self.held.extend(self.done.drain(..).map(|done| (self.hold, done)));
        Ok(())
    }
}
