//! Puts the heaps of any stream together, several at once, and hands them out in order.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::cnts::{Cnts, position};
use super::heap::Heap;
use super::landing::{Course, Landing, MIN_PAYLOAD};
use super::partial::PartialHeap;
use super::past::Past;
use super::tally::{SubstreamTally, Tally};
use crate::wire::{Packet, PacketHead};

/// Puts the heaps of any stream together, several at once, and hands them out in order.
///
/// Nothing is known of the stream beforehand, and nothing that a packet says is trusted: no more
/// heaps are assembled at once than [`WindowConfig::heaps`], nor more bytes than twice
/// [`WindowConfig::max_heap_len`], and as much again may have been handed out.
///
/// Heaps are handed out by their cnts. A heap waits for those before it as long as they may still
/// come: until the window is full, or [`Window::settle`] is called.
#[derive(Debug)]
pub struct Window {
    config: WindowConfig,
    /// By position in the stream; some are whole, and wait for others.
    heaps: BTreeMap<i128, Slot>,
    /// Bytes that those hold.
    bytes: usize,
    /// In order, to be handed out.
    ready: VecDeque<Heap>,
    /// Heaps that left the window and were not given back yet, and the bytes they hold.
    out: (usize, usize),
    pool: Vec<PartialHeap>,
    pool_bytes: usize,
    past: Past,
    /// Where the last new heap was.
    near: Option<i128>,
    /// Where the last heap was that left the window.
    left: Option<i128>,
    cnts: Cnts,
    substreams: Vec<Substream>,
    tally: Tally,
}

/// How much memory a [`Window`] spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Heaps that are assembled at once, at least 1.
    pub heaps: usize,
    /// The longest heap in bytes, descriptors included. Longer ones are ignored.
    pub max_heap_len: usize,
    /// How many substreams there are, at least 1, each of which ends with a stop heap.
    pub substreams: usize,
}

#[derive(Debug)]
struct Slot {
    heap: Heap,
    is_whole: bool,
}

#[derive(Clone, Debug, Default)]
struct Substream {
    cnts: Cnts,
    tally: SubstreamTally,
    /// What comes next, if it goes on as it did with the last two packets.
    course: Option<Course>,
    /// The same, if it goes on as it did with the last packet.
    guess: Option<Course>,
}

impl Window {
    /// An empty window.
    pub fn new(config: WindowConfig) -> Self {
        let config = WindowConfig {
            heaps: config.heaps.max(1),
            substreams: config.substreams.max(1),
            ..config
        };
        Self {
            heaps: BTreeMap::new(),
            bytes: 0,
            ready: VecDeque::new(),
            out: (0, 0),
            pool: Vec::new(),
            pool_bytes: 0,
            past: Past::of(PAST.max(2 * config.heaps)),
            near: None,
            left: None,
            cnts: Cnts::default(),
            substreams: vec![Substream::default(); config.substreams],
            tally: Tally::default(),
            config,
        }
    }

    /// Takes a datagram that came on a substream, which is one of those there are.
    pub fn datagram(&mut self, substream: usize, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(bytes) else {
            self.tally.not_spead += 1;
            return;
        };
        self.tally.packets += 1;
        self.tally.payload_bytes += packet.payload().len() as u64;
        let substream = substream.min(self.substreams.len() - 1);
        if !self.packet(substream, &packet) {
            self.tally.ignored += 1;
        }
    }

    /// Where the payload of the next datagrams of a substream belongs, if they are what is to be
    /// expected.
    pub(super) fn landing(&mut self, substream: usize) -> Option<Landing<'_>> {
        let course = self.substreams.get(substream)?.course?;
        let slot = self.heaps.get_mut(&course.position).filter(|slot| !slot.is_whole)?;
        let place = slot.heap.parts.gap(course.offset);
        (!place.is_empty()).then_some(Landing { course, place })
    }

    /// Takes the head of a datagram whose payload is where [`Window::landing`] said, none having
    /// been taken since but those before it of the same message.
    pub(super) fn landed(&mut self, substream: usize, head: &[u8]) {
        let Ok((head, _)) = PacketHead::parse(head) else { return };
        let header = head.header();
        self.tally.packets += 1;
        self.tally.payload_bytes += header.payload_length;
        let Some(course) = self.substreams.get(substream).and_then(|it| it.course) else { return };
        let Some(slot) = self.heaps.get_mut(&course.position) else { return };
        if slot.heap.parts.adopt(&head) {
            slot.is_whole = slot.heap.parts.is_whole();
            let offset = course.offset + header.payload_length as usize;
            self.substreams[substream].course = Some(Course { offset, ..course });
            self.substreams[substream].guess = self.substreams[substream].course;
            self.complete_if_whole(course.position);
        } else {
            self.tally.ignored += 1;
        }
    }

    /// The next heap with data or descriptors, if there is one.
    pub fn take(&mut self) -> Option<Heap> {
        self.ready.pop_front()
    }

    /// Takes a heap back that is done with: its memory serves for another.
    pub fn give_back(&mut self, heap: Heap) {
        self.out.0 = self.out.0.saturating_sub(1);
        self.out.1 = self.out.1.saturating_sub(heap.parts.allocated());
        self.recycle(heap.parts);
    }

    /// Whether as much is handed out as may be: then some is to be given back before the next
    /// datagram.
    pub fn is_exhausted(&self) -> bool {
        self.out.0 >= self.config.heaps || self.out.1 > self.max_bytes()
    }

    /// Whether each substream has ended.
    pub fn is_stopped(&self) -> bool {
        self.substreams.iter().all(|substream| substream.tally.stopped)
    }

    /// Whether there are heaps of which packets are missing.
    pub fn is_waiting(&self) -> bool {
        self.heaps.values().any(|slot| !slot.is_whole)
    }

    /// Heaps with data that arrived whole so far.
    pub fn whole(&self) -> u64 {
        self.tally.heaps
    }

    /// Payload bytes in all packets so far, and heaps that were given up on.
    pub fn counts(&self) -> (u64, u64) {
        (self.tally.payload_bytes, self.tally.incomplete)
    }

    /// Hands out what is whole and waits only for heaps of which nothing has come: for when nothing
    /// has come at all for a while.
    pub fn settle(&mut self) {
        while self.heaps.first_key_value().is_some_and(|(_, slot)| slot.is_whole) {
            self.release_first();
        }
    }

    /// Hands out what is whole, and forgets what is on its way: for when enough has come.
    pub fn abandon(&mut self) {
        let positions: Vec<i128> = self.heaps.keys().copied().collect();
        for position in positions {
            if self.heaps.get(&position).is_some_and(|slot| slot.is_whole) {
                continue;
            }
            // It was seen, and is not missing.
            if let Some(slot) = self.heaps.remove(&position) {
                self.substreams[slot.heap.substream].cnts.note(position);
            }
        }
        self.finish();
    }

    /// Gives up on what is missing, and hands out the rest.
    pub fn finish(&mut self) {
        while !self.heaps.is_empty() {
            self.release_first();
        }
    }

    /// What came so far, and what did not.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        tally.substreams = self
            .substreams
            .iter()
            .map(|substream| SubstreamTally {
                missing: substream.cnts.missing(),
                ..substream.tally
            })
            .collect();
        tally.missing =
            tally.substreams.iter().fold(0, |sum, other| sum.saturating_add(other.missing));
        tally
    }

    /// Bytes of memory for heaps, those that were handed out and not given back included.
    pub fn memory(&self) -> usize {
        self.bytes + self.out.1 + self.pool_bytes
    }

    /// Takes a packet. False if it adds nothing.
    fn packet(&mut self, substream: usize, packet: &Packet<'_>) -> bool {
        let header = packet.header();
        let position = position(header.flavour, header.heap_cnt, self.near);
        if !self.heaps.contains_key(&position)
            && (self.past.contains(position) || !self.start(substream, position, packet))
        {
            return false;
        }
        let Some(slot) = self.heaps.get_mut(&position) else { return false };
        if slot.is_whole || slot.heap.flavour != header.flavour {
            return false;
        }
        if header.payload_length == 0 {
            // Item pointers may need more packets than the payload does.
            slot.heap.parts.note(packet.item_pointers());
            slot.is_whole = header.heap_length == 0;
        } else {
            if !slot.heap.parts.add(packet) {
                return false;
            }
            slot.is_whole = slot.heap.parts.is_whole();
        }
        self.substreams[substream].follow(position, packet);
        self.complete_if_whole(position);
        true
    }

    fn complete_if_whole(&mut self, position: i128) {
        if self.heaps.get(&position).is_some_and(|slot| slot.is_whole) {
            self.complete(position);
        }
    }

    fn start(&mut self, substream: usize, position: i128, packet: &Packet<'_>) -> bool {
        let header = packet.header();
        let Ok(len) = usize::try_from(header.heap_length) else { return false };
        // The length of a heap may be missing, and a packet's payload then ends beyond it.
        let end = header.payload_offset + header.payload_length;
        if len > self.config.max_heap_len || end > header.heap_length {
            return false;
        }
        let mut parts = self.pool.pop().unwrap_or_default();
        self.pool_bytes -= parts.allocated();
        let bytes = len.max(parts.allocated());
        while self.heaps.len() >= self.config.heaps
            || !self.heaps.is_empty() && self.bytes.saturating_add(bytes) > self.max_bytes()
        {
            self.release_first();
        }
        if !parts.restart(header.heap_cnt, len) {
            self.recycle(parts);
            return false;
        }
        self.near = Some(position);
        self.bytes += parts.allocated();
        let heap = Heap { flavour: header.flavour, substream, parts };
        self.heaps.insert(position, Slot { heap, is_whole: false });
        true
    }

    /// Takes note of a heap that has become whole, and hands out what waited for it.
    fn complete(&mut self, position: i128) {
        let Some(slot) = self.heaps.get(&position) else { return };
        let substream = &mut self.substreams[slot.heap.substream];
        if slot.heap.is_stop() {
            substream.tally.stopped = true;
        } else if slot.heap.is_data() {
            substream.tally.heaps += 1;
            substream.cnts.note(position);
            self.tally.heaps += 1;
            self.cnts.note(position);
        }
        while let Some((&first, slot)) = self.heaps.first_key_value()
            && slot.is_whole
            && self.is_next(first)
        {
            self.release_first();
        }
    }

    /// Whether there is no heap between the last that left and this one, as far as cnts tell.
    fn is_next(&self, position: i128) -> bool {
        match self.left {
            Some(left) => position <= left + self.cnts.step().unwrap_or(1),
            // One substream starts where it starts; of several, another may have an earlier heap.
            None => self.substreams.len() == 1,
        }
    }

    /// Hands the first heap out if it is whole and of use; gives up on it otherwise.
    fn release_first(&mut self) {
        let Some((position, Slot { heap, is_whole })) = self.heaps.pop_first() else { return };
        self.bytes -= heap.parts.allocated();
        self.left = Some(position);
        self.past.insert(position);
        if is_whole && !heap.is_stop() {
            self.out.0 += 1;
            self.out.1 += heap.parts.allocated();
            self.ready.push_back(heap);
            return;
        }
        if !is_whole {
            let substream = &mut self.substreams[heap.substream];
            substream.tally.incomplete += 1;
            substream.cnts.note(position);
            self.tally.incomplete += 1;
            tracing::debug!(cnt = heap.cnt(), "packets of a heap are missing");
        }
        self.recycle(heap.parts);
    }

    fn recycle(&mut self, parts: PartialHeap) {
        if self.memory().saturating_add(parts.allocated()) <= self.max_bytes().saturating_mul(2) {
            self.pool_bytes += parts.allocated();
            self.pool.push(parts);
        }
    }

    fn max_bytes(&self) -> usize {
        self.config.max_heap_len.saturating_mul(2)
    }
}

impl Substream {
    /// Takes note of where a packet leads. One packet that follows another makes a course; one that
    /// does not ends it.
    fn follow(&mut self, position: i128, packet: &Packet<'_>) {
        let header = packet.header();
        let payload_len = packet.payload().len();
        let start = header.payload_offset as usize;
        let next = Course {
            position,
            flavour: header.flavour,
            heap_cnt: header.heap_cnt,
            offset: start + payload_len,
            head_len: packet.head().len(),
            payload_len,
        };
        let goes_on = self.guess == Some(Course { offset: start, ..next });
        self.course = (goes_on && payload_len >= MIN_PAYLOAD).then_some(next);
        self.guess = Some(next);
    }
}

/// Heaps that are remembered, at least.
const PAST: usize = 4096;
