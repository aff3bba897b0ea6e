//! The stream that arrives at a substream, and which packets are of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::cnts::{Cnts, FAR, position};
use super::heap::Heap;
use super::recent::{RecentHeaps, Seen};
use crate::wire::{Flavour, Packet, item};

/// A stream that arrives at a substream: the heaps that are put together, and what is known of all others.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// How many streams came there before.
    pub(super) number: u32,
    /// By position in the stream; some are whole, and wait for others.
    pub(super) slots: BTreeMap<i128, Slot>,
    /// Heaps that left the window.
    pub(super) recent: RecentHeaps,
    pub(super) cnts: Cnts,
    /// Where the last heap is that was begun.
    pub(super) highest: Option<i128>,
    /// Where the last heap was that left the window.
    pub(super) left: Option<i128>,
    flavour: Flavour,
    /// How far a packet came behind the last heap, at most.
    deepest: i128,
    /// What may be the end of it.
    turn: Option<Turn>,
    /// Where its packets came from: the first few.
    sources: Vec<SocketAddr>,
    /// Packets, as long as it is not known whether this is another stream.
    pub(super) packets: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) heap: Heap,
    pub(super) source: Option<SocketAddr>,
    pub(super) is_whole: bool,
}

/// A heap after which a stream may start again.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Where the stream has its start, and how far it had come.
    start: i128,
    end: i128,
    is_stop: bool,
}

/// What a packet is to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Of a heap that is, or is to be, one of its own.
    Own,
    /// Of a heap that it had.
    Duplicate,
    /// Of another stream, whose cnts this one has had.
    Again,
    /// The same, if it is no duplicate: it follows a stop heap, or descriptors that came again.
    Perhaps,
    /// Of another stream: this one has ended, or never came so far.
    After,
    /// Far ahead: after a long loss, or made up.
    Ahead,
}

impl Incoming {
    /// Another stream that begins here.
    pub(super) fn beginning_at(highest: i128, number: u32) -> Self {
        Self { highest: Some(highest), number, ..Self::default() }
    }

    /// Where a packet is in the stream. `near` is where another one is.
    pub(super) fn position(&self, packet: &Packet<'_>, near: Option<i128>) -> i128 {
        let header = packet.header();
        position(header.flavour, header.heap_cnt, self.highest.or(near))
    }

    /// What a packet is to this stream, whose window has `heaps`. A cnt that was there already is of another
    /// stream if the packet comes from elsewhere than that heap did, further back than packets are out of
    /// order here, or after a stop heap or descriptors that came again.
    ///
    /// What follows these is nearer to the start of its stream than to where the one before had got to, and
    /// a packet that was merely held up is not.
    pub(super) fn relation(
        &mut self,
        position: i128,
        packet: &Packet<'_>,
        source: Option<SocketAddr>,
        heaps: usize,
    ) -> Relation {
        let (seen, known) = match self.slots.get(&position) {
            None => (self.recent.seen(position), self.recent.source(position)),
            Some(slot) if slot.is_whole => (Seen::Yes, slot.source),
            Some(slot) => {
                // Packets of one heap come from one source, unless they come from anywhere.
                let foreign = source.is_some() && slot.source.is_some() && source != slot.source;
                if foreign {
                    self.note_source(source);
                }
                return match foreign && self.sources.len() < ANYWHERE {
                    true => Relation::Again,
                    false => Relation::Own,
                };
            }
        };
        let Some(highest) = self.highest else { return Relation::Own };
        let step = self.cnts.step().unwrap_or(1);
        match seen {
            Seen::No if self.turn.is_some_and(|it| it.is_stop && position > it.end) => {
                Relation::After
            }
            Seen::No if position - highest > FAR => Relation::After,
            Seen::No if position - highest > heaps as i128 * step => match self.turn {
                Some(_) => Relation::After,
                None => Relation::Ahead,
            },
            Seen::No => Relation::Own,
            Seen::LongAgo => Relation::Again,
            Seen::Yes => {
                let window = heaps as i128 * step;
                if known.is_some() && source.is_some() && known != source
                    || highest - position > window.max(2 * self.deepest)
                {
                    return Relation::Again;
                }
                if let Some(Turn { start, end, .. }) = self.turn
                    && position < end
                    && position - start <= (end - position).max(step)
                {
                    return Relation::Perhaps;
                }
                let flavour = packet.header().flavour;
                if packet.item_pointers().any(|it| it.id(flavour) == item::DESCRIPTOR) {
                    self.turn = Some(Turn { start: position, end: highest + 1, is_stop: false });
                }
                Relation::Duplicate
            }
        }
    }

    /// Whether a packet of this stream, at `position`, is rather one of another that has just begun, and where
    /// it is at `there`.
    pub(super) fn yields_to(
        &self,
        rival: &Self,
        position: i128,
        there: i128,
        source: Option<SocketAddr>,
        heaps: usize,
    ) -> bool {
        let is_known = source.is_none_or(|source| self.sources.contains(&source));
        match self.turn {
            Some(turn) if position <= turn.end => rival.is_ahead(there, source, heaps),
            _ if !is_known => rival.is_ahead(there, source, heaps),
            _ => {
                self.highest < Some(position) && rival.goes_on_with(there, source, self.cnts.step())
            }
        }
    }

    /// Whether a packet is what comes next in a stream that has just begun, whose cnts are `step` apart.
    fn goes_on_with(&self, position: i128, source: Option<SocketAddr>, step: Option<i128>) -> bool {
        let step = step.unwrap_or(1);
        self.is_from(source)
            && self.highest.is_some_and(|it| (0..=2 * step).contains(&(position - it)))
    }

    /// Whether a packet may be of a heap that this stream, which has just begun, is yet to have.
    pub(super) fn is_ahead(
        &self,
        position: i128,
        source: Option<SocketAddr>,
        heaps: usize,
    ) -> bool {
        self.is_from(source) && self.highest < Some(position) && self.is_near(position, heaps)
    }

    fn is_from(&self, source: Option<SocketAddr>) -> bool {
        self.sources.first().copied() == source
    }

    fn note_source(&mut self, source: Option<SocketAddr>) {
        if let Some(source) = source
            && self.sources.len() < ANYWHERE
            && !self.sources.contains(&source)
        {
            self.sources.push(source);
        }
    }

    /// Whether a position is as near as heaps of one stream are.
    pub(super) fn is_near(&self, position: i128, heaps: usize) -> bool {
        self.highest.is_none_or(|it| (position - it).abs() <= reach(heaps))
    }

    /// Whether two positions are as near as heaps of one stream are, this one's cnts being far apart.
    pub(super) fn is_near_to(&self, one: i128, other: i128, heaps: usize) -> bool {
        (one - other).abs() <= reach(heaps) * self.cnts.step().unwrap_or(1)
    }

    /// Takes note of a heap that begins.
    pub(super) fn begin(&mut self, position: i128, flavour: Flavour, source: Option<SocketAddr>) {
        self.note_source(source);
        self.flavour = flavour;
        // It goes on: the descriptors that came again were duplicates.
        self.turn = self.turn.filter(|turn| turn.is_stop || position < turn.end);
        self.reordered(position);
        self.highest = Some(self.highest.map_or(position, |it| it.max(position)));
    }

    /// Takes note of how far behind a packet is.
    pub(super) fn reordered(&mut self, position: i128) {
        if let Some(highest) = self.highest {
            self.deepest = self.deepest.max(highest - position);
        }
    }

    /// Takes note of the stop heap.
    pub(super) fn stop(&mut self, position: i128) {
        self.cnts.note_stop(position);
        let waiting = self.slots.first_key_value().map(|(&first, _)| first);
        let start = waiting.into_iter().chain(self.cnts.first()).min().unwrap_or(position);
        let end = self.highest.map_or(position, |it| it.max(position));
        self.turn = Some(Turn { start, end, is_stop: true });
    }

    /// The cnt of the first heap seen.
    pub(super) fn first_cnt(&self) -> Option<u64> {
        let period = i128::from(self.flavour.max_value()) + 1;
        self.cnts.first().map(|position| position.rem_euclid(period) as u64)
    }

    /// How many heaps never came: see [`Cnts::missing`].
    pub(super) fn missing(&self, usual_step: i128, first_cnt: Option<u64>) -> u64 {
        let first = first_cnt.map(|cnt| position(self.flavour, cnt, self.cnts.lowest()));
        self.cnts.missing(usual_step, first)
    }
}

/// How far heaps of a stream are from each other, at most, in steps.
fn reach(heaps: usize) -> i128 {
    MIN_REACH.max(4 * heaps as i128)
}

const MIN_REACH: i128 = 4096;
/// A stream of so many sources has senders, or ports, of which any may send part of a heap.
const ANYWHERE: usize = 3;
