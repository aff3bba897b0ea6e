//! Where packets are sent to, and what arrives there.

use std::net::SocketAddr;

use super::incoming::{Incoming, Relation, Slot};
use super::partial::{PartialHeap, Taken};
use super::placement::{MIN_PAYLOAD, NextPacket};
use super::tally::{Refusal, SubstreamTally};
use crate::wire::{Packet, PacketHead};

/// Where packets are sent to, and what arrives there.
#[derive(Debug, Default)]
pub(super) struct Substream {
    pub(super) stream: Incoming,
    /// Another stream that may be beginning, and why it seems so.
    pub(super) rival: Option<(Incoming, Relation)>,
    pub(super) tally: SubstreamTally,
    /// Streams that were, or seemed to be, there before.
    pub(super) before: u32,
    /// Heaps that never came, of streams that were there before.
    pub(super) lost: u64,
    /// Whether nothing more comes, be there a stop heap or none.
    pub(super) is_closed: bool,
    /// What comes next, if it goes on as it did with the last two packets.
    pub(super) next_packet: Option<NextPacket>,
    /// The same, if it goes on as it did with the last packet.
    pub(super) guess: Option<NextPacket>,
}

impl Substream {
    /// Where its first heap is, if that is whole, and `at`.
    pub(super) fn first_whole(&self, at: usize) -> Option<(i128, usize)> {
        let (&position, slot) = self.stream.slots.first_key_value()?;
        slot.is_whole.then_some((position, at))
    }

    /// Bytes that the heaps of its stream hold.
    pub(super) fn bytes(&self) -> usize {
        self.stream.slots.values().map(|slot| slot.heap.parts.allocated()).sum()
    }

    /// How many heaps of its stream never came.
    pub(super) fn missing(&self, usual_step: i128, first_cnt: Option<u64>) -> u64 {
        self.stream.missing(usual_step, first_cnt.filter(|_| self.stream.number == 0))
    }

    /// Another stream takes the place of this one, of which nothing is left in the window.
    pub(super) fn begin_anew(&mut self, next: Incoming, usual_step: i128, first_cnt: Option<u64>) {
        self.lost = self.lost.saturating_add(self.missing(usual_step, first_cnt));
        self.tally.first_cnt = self.tally.first_cnt.or(self.stream.first_cnt());
        self.tally.restarts += 1;
        self.tally.stopped = false;
        self.is_closed = false;
        self.next_packet = None;
        self.guess = None;
        self.stream = next;
    }

    /// Takes note of where a packet leads. One packet that follows another makes a course; one that
    /// does not ends it.
    pub(super) fn follow(&mut self, position: i128, packet: &Packet<'_>) {
        let header = packet.header();
        let payload_len = packet.payload().len();
        let start = header.payload_offset as usize;
        let next = NextPacket {
            position,
            flavour: header.flavour,
            heap_cnt: header.heap_cnt,
            offset: start + payload_len,
            head_len: packet.head().len(),
            payload_len,
        };
        let goes_on = self.guess == Some(NextPacket { offset: start, ..next });
        self.next_packet = (goes_on && payload_len >= MIN_PAYLOAD).then_some(next);
        self.guess = Some(next);
    }
}

impl Slot {
    /// Whether a packet of this heap comes as the first one did, and is not known to be of another.
    pub(super) fn expects(&self, source: Option<SocketAddr>) -> bool {
        !self.is_whole && self.source == source
    }

    /// Takes a packet. Says how much more memory the heap holds, and whether the packet adds anything.
    pub(super) fn add(&mut self, packet: &Packet<'_>) -> (usize, Result<bool, Refusal>) {
        if self.heap.flavour != packet.header().flavour {
            return (0, Err(Refusal::Contradiction));
        }
        match self.is_whole {
            true => (0, Ok(false)),
            false => self.take(|parts| parts.add(packet)),
        }
    }

    /// Takes a packet whose payload lies in its place already.
    pub(super) fn adopt(&mut self, head: &PacketHead<'_>) -> (usize, Result<bool, Refusal>) {
        self.take(|parts| parts.adopt(head))
    }

    fn take(
        &mut self,
        take: impl FnOnce(&mut PartialHeap) -> Taken,
    ) -> (usize, Result<bool, Refusal>) {
        let before = self.heap.parts.allocated();
        let taken = take(&mut self.heap.parts);
        self.is_whole = self.heap.parts.is_whole();
        let more = self.heap.parts.allocated() - before;
        let taken = match taken {
            Taken::New => Ok(true),
            Taken::Again => Ok(false),
            Taken::Contradiction => Err(Refusal::Contradiction),
            Taken::TooManyItems => Err(Refusal::TooManyItems),
        };
        (more, taken)
    }
}
