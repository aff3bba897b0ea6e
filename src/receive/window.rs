//! Puts the heaps of any stream together, several at once, and hands them out in order.

mod departure;
mod rival;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::net::SocketAddr;

use super::cnts::Cnts;
use super::heap::{Heap, HeapView};
use super::incoming::Slot;
use super::partial::PartialHeap;
use super::placement::{NextPacket, Target};
use super::substream::Substream;
use super::tally::{Refusal, SubstreamTally, Tally};
use crate::wire::{ItemPointer, Packet, PacketHead, StreamControl, item};

/// Puts the heaps of any stream together, several at once, and hands them out in order.
///
/// Nothing is known of the stream beforehand, and nothing that a packet says is trusted: no more
/// heaps are assembled at once than [`WindowConfig::heaps`] on a substream, nor more bytes on all of them
/// than twice [`WindowConfig::max_heap_len`], and as much again may have been handed out.
///
/// A heap is known by its substream and its cnt. A substream is where packets were sent *to*, wherever
/// they come from: several senders may share it. Heaps are handed out by their cnts, over all substreams
/// whose cnts are of one sequence. A heap waits for those before it as long as they may still come: until
/// the window is full, or [`Window::settle`] is called.
///
/// A sender that starts again, with cnts that were there before, makes another stream on its substream:
/// [`Heap::stream`] counts them. A cnt that was there before means another stream, rather than a duplicate,
/// if the packet comes from another source than that heap did, lies further back than twice the deepest
/// reordering seen and than the window, or if a stop heap, or a descriptor that had been there, too,
/// came in between and it lies near the start of the stream. Another stream takes over once two heaps of it
/// have come: a single stray packet ends nothing.
#[derive(Debug)]
pub struct Window {
    config: WindowConfig,
    first_cnt: Option<u64>,
    substreams: Vec<Substream>,
    /// Bytes that the heaps in it hold.
    bytes: usize,
    /// Whole heaps in it that wait for others.
    waiting: usize,
    /// In order, to be handed out.
    ready: VecDeque<Heap>,
    consumer: Option<Consumer>,
    /// Heaps that left the window and were not given back yet, and the bytes they hold.
    out: (usize, usize),
    pool: Vec<PartialHeap>,
    pool_bytes: usize,
    /// Of the heap that is in one packet.
    pointers: Vec<ItemPointer>,
    /// Over all substreams: how far cnts are apart, and how far they have come.
    order: Cnts,
    left: Option<i128>,
    near: Option<i128>,
    tally: Tally,
}

/// How much memory a [`Window`] spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Heaps that are assembled at once on each substream, at least 1.
    pub heaps: usize,
    /// The longest heap in bytes, descriptors included. Longer ones are refused.
    pub max_heap_len: usize,
    /// How many substreams there are, each of which ends with a stop heap.
    pub substreams: usize,
}

/// What becomes of a heap that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Data,
    /// Descriptors and the like.
    Other,
    Stop,
}

/// Takes heaps where they lie.
struct Consumer(Box<dyn FnMut(&HeapView<'_>) + Send>);

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumer")
    }
}

impl Window {
    /// An empty window.
    pub fn new(config: WindowConfig) -> Self {
        let config = WindowConfig { heaps: config.heaps.max(1), ..config };
        let substreams = (0..config.substreams).map(|_| Substream::default()).collect();
        Self {
            first_cnt: None,
            substreams,
            bytes: 0,
            waiting: 0,
            ready: VecDeque::new(),
            consumer: None,
            out: (0, 0),
            pool: Vec::new(),
            pool_bytes: 0,
            pointers: Vec::with_capacity(MAX_SINGLE_POINTERS),
            order: Cnts::default(),
            left: None,
            near: None,
            tally: Tally::default(),
            config,
        }
    }

    /// Has `take` look at each heap where it lies, which may be a packet, in place of handing it out.
    #[must_use]
    pub fn consumed_by(self, take: impl FnMut(&HeapView<'_>) + Send + 'static) -> Self {
        Self { consumer: Some(Consumer(Box::new(take))), ..self }
    }

    /// Counts what is missing from the heap with this cnt on: without it, what came before the first
    /// heap that was seen is not known of.
    #[must_use]
    pub fn beginning_at(self, first_cnt: u64) -> Self {
        Self { first_cnt: Some(first_cnt), ..self }
    }

    /// Begins another substream, and says which.
    pub fn add_substream(&mut self) -> usize {
        self.substreams.push(Substream::default());
        self.substreams.len() - 1
    }

    /// Nothing more comes on a substream, be there a stop heap or none.
    pub fn close_substream(&mut self, substream: usize) {
        if let Some(substream) = self.substreams.get_mut(substream) {
            substream.is_closed = true;
        }
    }

    /// Takes a datagram that came on a substream, which is one of those there are, from whomever.
    pub fn datagram(&mut self, substream: usize, bytes: &[u8]) {
        self.datagram_from(substream, None, bytes);
    }

    /// Takes a datagram that came on a substream, which is one of those there are.
    pub fn datagram_from(&mut self, substream: usize, source: Option<SocketAddr>, bytes: &[u8]) {
        let (Ok(packet), true) = (Packet::parse(bytes), substream < self.substreams.len()) else {
            self.tally.not_spead += 1;
            return;
        };
        self.tally.packets += 1;
        self.tally.payload_bytes += packet.payload().len() as u64;
        let taken = self.packet(substream, source, &packet);
        self.note(packet.header().heap_cnt, taken);
    }

    /// Takes note of a datagram that is no SPEAD packet.
    pub(super) fn not_spead(&mut self) {
        self.tally.not_spead += 1;
    }

    /// Where the payload of the next datagrams of a substream belongs, if they are what is to be
    /// expected.
    pub(super) fn target(&mut self, substream: usize) -> Option<Target<'_>> {
        let substream = self.substreams.get_mut(substream)?;
        let next = substream.next_packet.filter(|_| substream.rival.is_none())?;
        let slot = substream.stream.slots.get_mut(&next.position).filter(|slot| !slot.is_whole)?;
        let place = slot.heap.parts.gap(next.offset);
        (!place.is_empty()).then_some(Target { next, place })
    }

    /// Takes the head of a datagram whose payload is where [`Window::target`] said, none having
    /// been taken since but those before it of the same message.
    pub(super) fn placed(&mut self, substream: usize, head: &[u8]) {
        let Ok((head, _)) = PacketHead::parse(head) else { return };
        let header = head.header();
        self.tally.packets += 1;
        self.tally.payload_bytes += header.payload_length;
        let Some(it) = self.substreams.get_mut(substream) else { return };
        let Some(next) = it.next_packet else { return };
        let Some(slot) = it.stream.slots.get_mut(&next.position) else { return };
        let (more, taken) = slot.adopt(&head);
        self.bytes += more;
        if taken == Ok(true) {
            let is_whole = slot.is_whole;
            let offset = next.offset + header.payload_length as usize;
            it.stream.reordered(next.position);
            it.next_packet = Some(NextPacket { offset, ..next });
            it.guess = it.next_packet;
            if is_whole {
                self.complete(substream, next.position);
            }
        }
        self.note(header.heap_cnt, taken);
    }

    /// Counts a packet that adds nothing, or that no heap takes.
    fn note(&mut self, cnt: u64, taken: Result<bool, Refusal>) {
        match taken {
            Ok(true) => {}
            Ok(false) => self.tally.ignored += 1,
            Err(refusal) => {
                self.tally.refused += 1;
                self.tally.first_refusal.get_or_insert((cnt, refusal));
            }
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

    /// Whether each substream has ended, and there are any.
    pub fn is_stopped(&self) -> bool {
        let has_ended = |it: &Substream| it.tally.stopped || it.is_closed;
        !self.substreams.is_empty() && self.substreams.iter().all(has_ended)
    }

    /// Whether there are heaps of which packets are missing.
    pub fn is_waiting(&self) -> bool {
        let incoming = self.substreams.iter().map(|it| &it.stream);
        let mut slots = incoming.flat_map(|it| it.slots.values());
        slots.any(|slot| !slot.is_whole)
    }

    /// Heaps with data that left the window whole so far.
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
        while self.waiting > 0 {
            let firsts =
                self.substreams.iter().enumerate().filter_map(|(at, it)| it.first_whole(at));
            let Some((_, substream)) = firsts.min() else { return };
            self.release_first(substream);
        }
    }

    /// Hands out what is whole, and forgets what is on its way: for when enough has come.
    pub fn abandon(&mut self) {
        for substream in 0..self.substreams.len() {
            let stream = &mut self.substreams[substream].stream;
            let unfinished = stream.slots.extract_if(.., |_, slot| !slot.is_whole);
            for (position, slot) in unfinished.collect::<Vec<_>>() {
                // It was seen, and is not missing.
                self.substreams[substream].stream.cnts.note(position, self.config.heaps);
                self.bytes -= slot.heap.parts.allocated();
                self.recycle(slot.heap.parts);
            }
        }
        self.finish();
    }

    /// Gives up on what is missing, and hands out the rest.
    pub fn finish(&mut self) {
        self.settle();
        for substream in 0..self.substreams.len() {
            while !self.substreams[substream].stream.slots.is_empty() {
                self.release_first(substream);
            }
            self.dismiss_rival(substream);
        }
    }

    /// What came so far, and what did not.
    pub fn tally(&self) -> Tally {
        let usual_step = self.usual_step();
        let substream = |it: &Substream| SubstreamTally {
            missing: it.lost.saturating_add(it.missing(usual_step, self.first_cnt)),
            first_cnt: it.tally.first_cnt.or(it.stream.first_cnt()),
            ..it.tally
        };
        let substreams: Vec<_> = self.substreams.iter().map(substream).collect();
        let missing = substreams.iter().fold(0_u64, |sum, it| sum.saturating_add(it.missing));
        Tally { substreams, missing, ..self.tally.clone() }
    }

    /// Bytes of memory for heaps, those that were handed out and not given back included.
    pub fn memory(&self) -> usize {
        self.bytes + self.out.1 + self.pool_bytes
    }

    /// How far heaps of a substream are apart of which only one has come.
    fn usual_step(&self) -> i128 {
        let known = self.substreams.iter().filter_map(|it| it.stream.cnts.step()).max();
        known.unwrap_or(self.substreams.len() as i128)
    }

    /// Takes a packet. False if it adds nothing.
    fn packet(
        &mut self,
        substream: usize,
        source: Option<SocketAddr>,
        packet: &Packet<'_>,
    ) -> Result<bool, Refusal> {
        let it = &self.substreams[substream];
        let position = it.stream.position(packet, self.near);
        // All but the first packets of a heap, as a rule.
        let goes_on = it.rival.is_none()
            && it.stream.slots.get(&position).is_some_and(|slot| slot.expects(source));
        match goes_on {
            true => self.slot_packet(substream, position, packet),
            false => self.other_packet(substream, position, source, packet),
        }
    }

    /// Takes a packet of a heap that is in the window.
    fn slot_packet(
        &mut self,
        substream: usize,
        position: i128,
        packet: &Packet<'_>,
    ) -> Result<bool, Refusal> {
        let it = &mut self.substreams[substream];
        let Some(slot) = it.stream.slots.get_mut(&position) else { return Ok(false) };
        let (more, taken) = slot.add(packet);
        let is_whole = slot.is_whole;
        self.bytes += more;
        if taken == Ok(true) {
            it.stream.reordered(position);
            it.follow(position, packet);
            if is_whole {
                self.complete(substream, position);
            }
        }
        taken
    }

    /// Whether a heap may be put together at all.
    fn check(&self, packet: &Packet<'_>) -> Result<usize, Refusal> {
        let len = packet.head().heap_length().ok_or(Refusal::NoLength)?;
        usize::try_from(len)
            .ok()
            .filter(|&len| len <= self.config.max_heap_len)
            .ok_or(Refusal::TooLong(len))
    }

    /// Makes room for another heap.
    fn begin(
        &mut self,
        substream: usize,
        source: Option<SocketAddr>,
        packet: &Packet<'_>,
    ) -> Result<Slot, Refusal> {
        let len = self.check(packet)?;
        let mut parts = self.pool.pop().unwrap_or_default();
        self.pool_bytes -= parts.allocated();
        while self.substreams[substream].stream.slots.len() >= self.config.heaps {
            self.release_first(substream);
        }
        let bytes = len.max(parts.allocated());
        while self.bytes > 0 && self.bytes.saturating_add(bytes) > self.max_bytes() {
            // Whoever holds most gives way: those who hold little do not suffer from those who do not.
            let held = self.substreams.iter().map(Substream::bytes).enumerate();
            match held.max_by_key(|(_, bytes)| *bytes) {
                Some((largest, 1..)) => self.release_first(largest),
                _ => break,
            }
        }
        if !parts.restart(packet.header().heap_cnt, len) {
            self.recycle(parts);
            return Err(Refusal::NoMemory);
        }
        self.bytes += parts.allocated();
        let flavour = packet.header().flavour;
        let stream = self.substreams[substream].stream.number;
        let heap = Heap { flavour, substream, stream, parts };
        self.trim();
        Ok(Slot { heap, source, is_whole: false })
    }

    /// Takes a heap that is in one packet and whose turn it is: nothing is put together, and copied only to
    /// be handed out.
    fn single(
        &mut self,
        substream: usize,
        position: i128,
        source: Option<SocketAddr>,
        packet: &Packet<'_>,
    ) -> bool {
        let header = *packet.header();
        let payload = packet.payload();
        if packet.head().heap_length() != Some(header.payload_length)
            || payload.len() > self.config.max_heap_len
            || usize::from(header.item_pointers) > MAX_SINGLE_POINTERS
        {
            return false;
        }
        let it = &self.substreams[substream];
        if it.stream.slots.first_key_value().is_some_and(|(&first, _)| first <= position) {
            return false;
        }
        let mut pointers = mem::take(&mut self.pointers);
        pointers.clear();
        for pointer in packet.item_pointers() {
            if !pointers.contains(&pointer) {
                pointers.push(pointer);
            }
        }
        let view = HeapView {
            flavour: header.flavour,
            cnt: header.heap_cnt,
            substream,
            pointers: &pointers,
            payload,
        };
        let purpose = Purpose::of(&view);
        self.learn(substream, position, purpose);
        let is_taken = self.is_next(substream, position) && self.deliver(&view, purpose);
        self.pointers = pointers;
        if is_taken {
            let stream = &mut self.substreams[substream].stream;
            stream.begin(position, header.flavour, source);
            self.near = Some(position);
            self.leave(substream, position, source);
            self.count(substream, position, purpose);
            self.advance();
        }
        is_taken
    }

    /// Lets memory go that waits for another heap, where those that there are hold much.
    fn trim(&mut self) {
        while self.memory() > self.max_bytes().saturating_mul(2)
            && let Some(parts) = self.pool.pop()
        {
            self.pool_bytes -= parts.allocated();
        }
    }

    fn max_bytes(&self) -> usize {
        self.config.max_heap_len.saturating_mul(2)
    }
}

impl Purpose {
    fn of(heap: &HeapView<'_>) -> Self {
        match heap.is_data() {
            _ if heap.is_stop() => Self::Stop,
            true => Self::Data,
            false => Self::Other,
        }
    }
}

/// Whether a packet is all of a stop heap.
fn is_stop_heap(packet: &Packet<'_>) -> bool {
    let flavour = packet.header().flavour;
    packet.head().heap_length() == Some(packet.header().payload_length)
        && packet.item_pointers().any(|it| {
            it.id(flavour) == item::STREAM_CTRL
                && it.is_immediate()
                && it.value(flavour) == StreamControl::Stop as u64
        })
}

/// A heap in one packet with more items than this is put together like any other: each of them is
/// compared with those before it.
const MAX_SINGLE_POINTERS: usize = 32;
