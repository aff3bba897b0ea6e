//! What became of a batch.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use super::failures::{Failures, HeapFailure};
use crate::backend::{Done, SendError};
use crate::pacer::{Counted, Rate};
use crate::plan::PlannedPacket;
use crate::region::{Batch, InFlight, Slot};

/// A batch that came back, with what happened to each heap.
#[derive(Debug)]
#[must_use = "the batch can be filled and submitted again"]
pub struct Completion {
    /// The batch, idle.
    pub batch: Batch,
    /// How many of its heaps were submitted.
    pub heaps: u32,
    /// Heap cnt of the first.
    pub first_cnt: u64,
    /// The heaps that did not go out whole, in order. All others did.
    pub failures: Vec<HeapFailure>,
    /// The number that it was submitted with: [`Job::tag`](super::Job::tag).
    pub tag: u64,
}

impl Completion {
    /// Heaps that went out whole.
    pub fn sent(&self) -> u32 {
        self.heaps - self.failures.len() as u32
    }
}

/// A batch that was not accepted.
#[derive(Debug, Error)]
#[error("the batch was not submitted: {reason}")]
pub struct Rejected {
    /// The batch, unchanged.
    pub batch: Box<Batch>,
    /// How many of its heaps were to be submitted.
    pub heaps: u32,
    /// Why.
    pub reason: Reason,
    /// The number that it was submitted with: [`Job::tag`](super::Job::tag).
    pub tag: u64,
}

/// Why a batch was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The batch belongs to another sender.
    Foreign,
    /// More heaps than the batch has, or none.
    Heaps {
        /// Heaps to be sent.
        asked: u32,
        /// Heaps of the batch.
        batch: u32,
    },
    /// A heap's payload is to be attached, and is not: see [`Batch::attach`].
    Unattached {
        /// Which heap of the batch.
        heap: u32,
    },
    /// The backend has failed before.
    Failed(SendError),
    /// The stream has ended, or has as many heaps as it was to have.
    Ended,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it was allocated by another sender"),
            Self::Heaps { asked, batch } => {
                write!(f, "{asked} heaps were asked for, the batch has 1 to {batch}")
            }
            Self::Unattached { heap } => write!(f, "heap {heap} is attached to no payload"),
            Self::Failed(error) => write!(f, "the backend has failed: {error}"),
            Self::Ended => f.write_str("the stream has ended"),
        }
    }
}

/// A batch between submit and completion.
pub(super) struct Entry {
    in_flight: InFlight,
    first_cnt: u64,
    cnt_step: u64,
    /// Packets to post next; more may follow. None once all were posted.
    unposted: Option<Range<u32>>,
    /// Flows that are off, if any is; of their packets none is posted.
    disabled: Option<Box<[bool]>>,
    /// To keep to in place of the sender's.
    rate: Option<Rate>,
    /// Whether no packets follow those of `unposted`: they are given up.
    is_discarded: bool,
    /// Packets posted and not done.
    outstanding: u32,
    failures: Failures,
}

impl Entry {
    pub(super) fn new(
        in_flight: InFlight,
        first_cnt: u64,
        cnt_step: u64,
        disabled: Option<Box<[bool]>>,
        rate: Option<Rate>,
    ) -> Self {
        let first_cnt = first_cnt & in_flight.region().plan().flavour().max_value();
        let mut entry = Self {
            failures: Failures::new(in_flight.heaps()),
            in_flight,
            first_cnt,
            cnt_step,
            unposted: None,
            disabled,
            rate,
            is_discarded: false,
            outstanding: 0,
        };
        entry.unposted = entry.next_packets(0);
        entry.leave_out();
        entry
    }

    /// Says of the heaps to flows that are off that they are not sent.
    fn leave_out(&mut self) {
        let Some(disabled) = &self.disabled else { return };
        let flows = self.in_flight.region().plan().flows();
        let heaps = 0..self.in_flight.heaps();
        for heap in heaps.filter(|heap| disabled[(heap % flows) as usize]) {
            self.failures.add(heap, &SendError::Disabled);
        }
    }

    /// The first packets to post that are not before packet `from`.
    fn next_packets(&self, from: u32) -> Option<Range<u32>> {
        if self.is_discarded {
            return None;
        }
        let (plan, heaps) = (self.in_flight.region().plan(), self.in_flight.heaps());
        let mut range = plan.next_packets(heaps, from)?;
        let Some(disabled) = &self.disabled else { return Some(range) };
        loop {
            let packets = &plan.packets()[range.start as usize..range.end as usize];
            let is_off = |flow: u32| disabled[flow as usize];
            if let Some(start) = packets.iter().position(|packet| !is_off(packet.flow)) {
                let len = packets[start..].iter().take_while(|packet| !is_off(packet.flow)).count();
                let start = range.start + start as u32;
                return Some(start..start + len as u32);
            }
            range = plan.next_packets(heaps, range.end)?;
        }
    }

    pub(super) fn slot(&self) -> Slot {
        self.in_flight.slot()
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
    }

    pub(super) fn in_flight_mut(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    /// Packets to post next.
    pub(super) fn unposted(&self) -> Option<Range<u32>> {
        self.unposted.clone()
    }

    /// Says that the first packets of [`Entry::unposted`] were posted.
    pub(super) fn posted(&mut self, packets: u32) {
        self.outstanding += packets;
        self.skip(packets);
    }

    fn skip(&mut self, packets: u32) {
        let Some(range) = &mut self.unposted else { return };
        range.start += packets;
        if range.start == range.end {
            let end = range.end;
            self.unposted = self.next_packets(end);
        }
    }

    /// How many of these packets, from the first on, must go at once.
    pub(super) fn least(&self, packets: &Range<u32>) -> u32 {
        self.in_flight.region().arrangement().least(packets)
    }

    /// Ends some packets where a post may end, at or before `end`, but with no fewer than have to go at once.
    pub(super) fn cut(&self, packets: &Range<u32>, end: u32) -> Range<u32> {
        let arrangement = self.in_flight.region().arrangement();
        let least = packets.start + arrangement.least(packets);
        packets.start..arrangement.post_end(packets, end).max(least)
    }

    /// Where a burst at that rate ends; it has at least one packet.
    pub(super) fn burst(&self, packets: &Range<u32>, rate: Rate, overhead: usize) -> u32 {
        let mut left = u64::from(rate.burst);
        let planned = self.in_flight.region().plan().packets();
        let fitting = planned[packets.start as usize..packets.end as usize]
            .iter()
            .take_while(|packet| {
                let rest = left.checked_sub(bytes_of(packet, rate.counts, overhead));
                left = rest.unwrap_or(left);
                rest.is_some()
            })
            .count() as u32;
        packets.end.min(packets.start + fitting.max(1))
    }

    /// Bytes of some packets, of those that count.
    pub(super) fn counted(&self, packets: Range<u32>, counts: Counted, overhead: usize) -> u64 {
        let planned = self.in_flight.region().plan().packets();
        planned[packets.start as usize..packets.end as usize]
            .iter()
            .map(|packet| bytes_of(packet, counts, overhead))
            .sum()
    }

    /// Takes note of what the backend said.
    pub(super) fn done(&mut self, done: Done) {
        self.outstanding -= done.packets.len() as u32;
        if let Some(error) = done.error {
            self.lose(done.packets, &error);
        }
    }

    /// Gives up all that is not done, after the backend is gone.
    ///
    /// Which of the packets outstanding went out is not known: all heaps that may lack one failed.
    pub(super) fn abandon(&mut self, error: &SendError) {
        while let Some(packets) = self.unposted.clone() {
            self.skip(packets.len() as u32);
            self.lose(packets, error);
        }
        if self.outstanding > 0 {
            self.outstanding = 0;
            let heaps = self.in_flight.heaps();
            let plan = self.in_flight.region().plan().clone();
            for packets in plan.packets_of_first(heaps) {
                self.lose(packets, error);
            }
        }
    }

    /// Gives up what is not posted, but for what goes next if a part of that may be on the wire.
    pub(super) fn discard_unposted(&mut self, keeps_next: bool, error: &SendError) {
        let next = self.unposted.clone().filter(|_| keeps_next);
        let next = next.map(|it| it.start..it.start + self.least(&it));
        if let Some(next) = &next {
            self.skip(next.len() as u32);
        }
        while let Some(packets) = self.unposted.clone() {
            self.skip(packets.len() as u32);
            self.lose(packets, error);
        }
        (self.unposted, self.rate, self.is_discarded) = (next, None, true);
    }

    fn lose(&mut self, packets: Range<u32>, error: &SendError) {
        let plan = self.in_flight.region().plan();
        for &heap in &plan.heap_of_packet()[packets.start as usize..packets.end as usize] {
            self.failures.add(heap, error);
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.unposted.is_none() && self.outstanding == 0
    }

    /// Ends the flight, given a way to take the batch back.
    pub(super) fn complete(mut self, reclaim: impl FnOnce(InFlight) -> Batch) -> Completion {
        for (heap, error) in self.in_flight.truncated() {
            self.failures.replace(heap, SendError::Truncated(error));
        }
        let last_cnt = self.in_flight.region().plan().flavour().max_value();
        let cnt = |heap: u32| {
            let past = self.cnt_step.wrapping_mul(u64::from(heap));
            self.first_cnt.wrapping_add(past) & last_cnt
        };
        Completion {
            heaps: self.in_flight.heaps(),
            first_cnt: self.first_cnt,
            failures: self.failures.into_heaps(cnt),
            tag: 0,
            batch: reclaim(self.in_flight),
        }
    }
}

/// Bytes of a packet, of those that count.
fn bytes_of(packet: &PlannedPacket, counts: Counted, overhead: usize) -> u64 {
    let bytes = match counts {
        Counted::Wire => packet.len() + overhead,
        Counted::Payload => packet.payload_len,
    };
    bytes as u64
}

#[cfg(test)]
mod tests;
