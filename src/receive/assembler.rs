//! From packets to heaps, and what is right or wrong with them.

use std::collections::HashMap;

use super::expectation::{Expectation, TIMESTAMP_ITEM};
use super::items::Items;
use super::partial::PartialHeap;
use super::receiver::Received;
use super::sequence::Sequence;
use crate::wire::{ItemPointer, Packet, StreamControl, item};

/// Puts heaps together, and checks them.
pub(super) struct Assembler {
    expectation: Expectation,
    items: Items,
    sequence: Sequence,
    /// Heaps that are not whole yet, in a ring: each that starts takes the place of the one that
    /// started a ring's length before, whether that is whole or not.
    ring: Vec<Option<PartialHeap>>,
    next_place: usize,
    place_of_cnt: HashMap<u64, usize>,
    /// Done with, to be used again: the last one first, whose bytes are still in the cache.
    pool: Vec<PartialHeap>,
    received: Received,
    stops: u32,
}

impl Assembler {
    pub(super) fn new(expectation: Expectation) -> Self {
        let Expectation { flavour, first_cnt, cnt_step, .. } = expectation;
        Self {
            items: Items::new(flavour, &expectation.items),
            sequence: Sequence::new(flavour, first_cnt, cnt_step),
            ring: (0..expectation.heaps_in_flight.max(1)).map(|_| None).collect(),
            next_place: 0,
            place_of_cnt: HashMap::new(),
            pool: Vec::new(),
            received: Received::default(),
            stops: 0,
            expectation,
        }
    }

    /// Whether every flow has ended.
    pub(super) fn is_stopped(&self) -> bool {
        self.stops >= self.expectation.flows
    }

    /// What became of the stream.
    pub(super) fn finish(mut self) -> Received {
        let expected = self.expectation.heaps.unwrap_or_else(|| {
            let pending = self.place_of_cnt.keys().filter_map(|&cnt| self.sequence.index(cnt));
            pending.map(|index| index + 1).fold(self.sequence.end(), u64::max)
        });
        self.received.incomplete = expected.saturating_sub(self.received.heaps);
        self.received
    }

    /// Takes a datagram.
    pub(super) fn datagram(&mut self, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(bytes) else {
            self.received.not_spead += 1;
            return;
        };
        self.received.packets += 1;
        self.received.payload_bytes += packet.payload().len() as u64;
        if !self.packet(&packet) {
            self.received.ignored += 1;
        }
    }

    /// Takes a packet, if it is of a heap that is expected and not there yet.
    fn packet(&mut self, packet: &Packet<'_>) -> bool {
        let header = packet.header();
        let cnt = header.heap_cnt;
        let place = self.place_of_cnt.get(&cnt).copied();
        if header.flavour != self.expectation.flavour
            || header.heap_length > self.expectation.max_heap_len as u64
        {
            return false;
        }
        if place.is_none() && header.payload_length == header.heap_length {
            // All there is: nothing to assemble, and nothing to copy.
            return self.heap(cnt, packet.item_pointers(), packet.payload());
        }
        let place = match place {
            Some(place) => place,
            None if self.sequence.index(cnt).is_some_and(|index| self.sequence.contains(index)) => {
                return false;
            }
            None => match self.start(cnt, header.heap_length as usize) {
                Some(place) => place,
                None => return false,
            },
        };
        let Some(heap) = &mut self.ring[place] else { return false };
        if !heap.add(packet) {
            return false;
        }
        if heap.is_whole()
            && let Some(heap) = self.ring[place].take()
        {
            self.place_of_cnt.remove(&cnt);
            self.heap(cnt, heap.pointers().iter().copied(), heap.payload());
            self.pool.push(heap);
        }
        true
    }

    /// `None` if there is no memory for it.
    fn start(&mut self, cnt: u64, len: usize) -> Option<usize> {
        let place = self.next_place;
        self.next_place = (place + 1) % self.ring.len();
        let mut heap = match self.ring[place].take() {
            Some(oldest) => {
                self.place_of_cnt.remove(&oldest.cnt());
                oldest
            }
            None => self.pool.pop().unwrap_or_default(),
        };
        if !heap.restart(cnt, len) {
            self.pool.push(heap);
            return None;
        }
        self.ring[place] = Some(heap);
        self.place_of_cnt.insert(cnt, place);
        Some(place)
    }

    /// Checks a whole heap. False if it was there before.
    fn heap(
        &mut self,
        cnt: u64,
        pointers: impl Iterator<Item = ItemPointer>,
        payload: &[u8],
    ) -> bool {
        let flavour = self.expectation.flavour;
        let mut timestamp = None;
        let mut is_data = false;
        self.items.clear();
        for pointer in pointers {
            let value = pointer.value(flavour);
            is_data |= self.items.note(pointer);
            match (pointer.is_immediate(), pointer.id(flavour)) {
                (true, item::STREAM_CTRL) if value == StreamControl::Stop as u64 => {
                    self.stops += 1;
                    return true;
                }
                (true, TIMESTAMP_ITEM) => timestamp = Some(value),
                _ => {}
            }
        }
        // Descriptors and the like travel in heaps of their own, too.
        if !(is_data || self.items.is_empty() && timestamp.is_some()) {
            return true;
        }
        let index = self
            .sequence
            .index(cnt)
            .filter(|index| self.expectation.heaps.is_none_or(|heaps| *index < heaps));
        let Some(index) = index else {
            self.received.mismatched += 1;
            return true;
        };
        if self.sequence.contains(index) {
            return false;
        }
        self.sequence.insert(index);
        self.received.heaps += 1;

        let expected = index.wrapping_mul(self.items.len() as u64) & flavour.max_value();
        let timestamp_matches = !self.expectation.timestamp || timestamp == Some(expected);
        let data_matches = self.items.bytes(payload).is_some_and(|bytes| {
            let verifier = self.expectation.verifier.as_ref();
            verifier.is_none_or(|verifier| verifier.matches(index, bytes))
        });
        if !(timestamp_matches && data_matches) {
            self.received.mismatched += 1;
            tracing::debug!(
                index,
                cnt,
                timestamp,
                timestamp_matches,
                data_matches,
                "a heap is not as expected"
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::sync::Arc;

    use super::*;
    use crate::plan::{HeapSpec, Order, PacketSize, Plan};
    use crate::region::{Layout, Placement, Region};
    use crate::wire::{Descriptor, Flavour, HEADER_LEN, PacketHeader};

    /// A stream as a sender makes it: one batch, its heaps from `source`, descriptors in the first.
    #[derive(Clone, Debug)]
    struct Stream {
        flavour: Flavour,
        sizes: Vec<usize>,
        packet_size: PacketSize,
        order: Order,
        repeat_pointers: bool,
        heaps: u32,
        first_cnt: u64,
        cnt_step: u64,
        seed: u64,
    }

    impl Stream {
        fn items(&self) -> Vec<(u64, usize)> {
            (0x3300..).zip(self.sizes.clone()).collect()
        }

        /// The payload of a heap: no two are alike.
        fn heap(&self, index: u64) -> Vec<u8> {
            let mut state = self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            };
            (0..self.sizes.iter().sum()).map(next).collect()
        }

        fn expectation(&self) -> Expectation {
            let stream = self.clone();
            Expectation {
                first_cnt: self.first_cnt,
                cnt_step: self.cnt_step,
                heaps: Some(u64::from(self.heaps)),
                verifier: Some(Box::new(move |index, payload: &[u8]| {
                    stream.heap(index) == payload
                })),
                ..Expectation::new(self.flavour, self.items())
            }
        }

        /// The packets of each heap.
        fn packets(&self) -> Vec<Vec<Vec<u8>>> {
            let items = self.items();
            let data = |spec: HeapSpec| {
                let spec = spec.immediate(TIMESTAMP_ITEM, 0);
                items.iter().fold(spec, |spec, (id, size)| spec.payload(*id, *size))
            };
            let describe =
                |id: u64| Descriptor { id, name: "item".into(), ..Descriptor::default() };
            let first =
                items.iter().fold(HeapSpec::new(), |spec, (id, _)| spec.descriptor(describe(*id)));
            let (first, data) = (data(first), data(HeapSpec::new()));
            let plan = Plan::builder(self.flavour, self.packet_size)
                .heaps(&first, 1)
                .heaps(&data, self.heaps as usize - 1)
                .order(self.order)
                .repeat_pointers(self.repeat_pointers)
                .build()
                .unwrap();
            let (_, mut batches) = Region::allocate(
                &Arc::new(plan),
                Layout::Packed,
                1,
                Placement::ADJACENT,
                Vec::new(),
            )
            .unwrap();
            let mut batch = batches.pop().unwrap();
            for heap in 0..self.heaps {
                let payload = self.heap(heap.into());
                batch.fill(heap, &payload);
                let timestamp = u64::from(heap) * payload.len() as u64;
                batch.set_immediate(heap, TIMESTAMP_ITEM, timestamp).unwrap();
            }
            let batch = batch.stamp(self.heaps, self.first_cnt, self.cnt_step);
            let mut heaps = vec![Vec::new(); self.heaps as usize];
            for (packet, planned) in (0..).zip(batch.region().plan().packets()) {
                let bytes = batch.packet(packet);
                heaps[planned.heap as usize].push(bytes.to_vec());
            }
            heaps
        }
    }

    prop_compose! {
        fn streams()(
            bytes in 4_u8..=6,
            sizes in prop::collection::vec(0_usize..700, 1..4),
            uniform: bool,
            size in 104_usize..600,
            round_robin: bool,
            repeat_pointers: bool,
            heaps in 1_u32..6,
            first_cnt: u64,
            cnt_step in 1_u64..5,
            seed: u64,
        ) -> Stream {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let size = if uniform { PacketSize::Uniform { limit: size } } else { PacketSize::Exact(size) };
            let order = if round_robin { Order::RoundRobin } else { Order::Serial };
            Stream {
                flavour,
                sizes,
                packet_size: size,
                order,
                // Seven pointers and a padding one want 120 bytes; keep to sizes that carry them.
                repeat_pointers: repeat_pointers && matches!(
                    size, PacketSize::Uniform { limit: 128.. } | PacketSize::Exact(128..)
                ),
                heaps,
                first_cnt: first_cnt & flavour.max_value(),
                cnt_step,
                seed,
            }
        }
    }

    fn stop(flavour: Flavour) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        let header = PacketHeader {
            flavour,
            item_pointers: 1,
            heap_cnt: 0,
            heap_length: 1,
            payload_offset: 0,
            payload_length: 1,
        };
        header.emit(&mut packet);
        let stop = ItemPointer::immediate(flavour, item::STREAM_CTRL, StreamControl::Stop as u64);
        packet.extend(stop.to_be_bytes());
        packet.push(0);
        packet
    }

    /// Bytes that are allocated for payload.
    fn allocated(assembler: &Assembler) -> usize {
        let heaps = assembler.ring.iter().flatten().chain(&assembler.pool);
        heaps.map(PartialHeap::allocated).sum()
    }

    #[test]
    fn the_stream_ends_when_every_flow_has() {
        let flavour = Flavour::SPEAD_64_40;
        let expectation = Expectation {
            flows: 2,
            heaps: Some(3),
            ..Expectation::new(flavour, vec![(0x3300, 8)])
        };
        let mut assembler = Assembler::new(expectation);
        assembler.datagram(&stop(Flavour::SPEAD_64_48));
        assembler.datagram(&stop(flavour));
        assembler.datagram(b"not SPEAD");
        assert!(!assembler.is_stopped());
        assembler.datagram(&stop(flavour));
        assert!(assembler.is_stopped());
        let received = assembler.finish();
        assert_eq!((received.packets, received.ignored, received.not_spead), (3, 1, 1));
        assert_eq!((received.heaps, received.incomplete), (0, 3));
    }

    #[test]
    fn the_oldest_heap_gives_way() {
        let stream = Stream {
            flavour: Flavour::SPEAD_64_48,
            sizes: vec![5000],
            packet_size: PacketSize::Exact(1472),
            order: Order::Serial,
            repeat_pointers: false,
            heaps: 4,
            first_cnt: 1,
            cnt_step: 1,
            seed: 0,
        };
        let expectation = Expectation { heaps_in_flight: 2, heaps: None, ..stream.expectation() };
        let mut assembler = Assembler::new(expectation);
        let heaps = stream.packets();
        heaps[..3].iter().for_each(|heap| assembler.datagram(&heap[0]));
        heaps.iter().flat_map(|heap| &heap[1..]).for_each(|packet| assembler.datagram(packet));
        // Heap 0 gave way to heap 2, came again and took the place of heap 1, and so on.
        let received = assembler.finish();
        assert_eq!((received.heaps, received.incomplete), (0, 4));
        assert_eq!(received.mismatched, 0);
    }

    proptest! {
        /// Whatever the order, and however often packets come: every heap is there once, intact.
        #[test]
        fn any_order_of_packets_makes_the_heaps(
            stream in streams(), keys in prop::collection::vec(any::<u64>(), 50), copies in 0_usize..20,
        ) {
            let packets: Vec<Vec<u8>> = stream.packets().concat();
            let mut order: Vec<usize> = (0..packets.len()).chain((0..copies).map(|i| i * 7 % packets.len())).collect();
            let mut nth = 0_u64;
            order.sort_by_cached_key(|_| {
                nth += 1;
                keys[nth as usize % keys.len()].wrapping_mul(nth | 1)
            });
            let mut assembler = Assembler::new(stream.expectation());
            for index in order {
                assembler.datagram(&packets[index]);
            }
            let received = assembler.finish();
            prop_assert!(received.is_intact(), "{received:?}");
            // Heaps that consist of nothing but a timestamp and empty items are heaps, too.
            prop_assert_eq!(received.heaps, u64::from(stream.heaps));
            prop_assert_eq!(received.ignored, copies as u64);
            prop_assert_eq!(received.packets, (packets.len() + copies) as u64);
        }

        /// A packet that is lost or damaged costs its heap, and no other.
        #[test]
        fn one_bad_packet_is_one_bad_heap(stream in streams(), which: prop::sample::Index, lost: bool) {
            let mut heaps = stream.packets();
            let heap = which.index(heaps.len());
            let bad = heaps[heap].last_mut().unwrap();
            if lost {
                bad.clear();
            } else {
                // The last byte of a heap is data, or else padding, which nobody checks.
                prop_assume!(stream.sizes.last() > Some(&0));
                *bad.last_mut().unwrap() ^= 0x10;
            }
            let mut assembler = Assembler::new(stream.expectation());
            heaps.concat().iter().filter(|packet| !packet.is_empty()).for_each(|packet| assembler.datagram(packet));
            let received = assembler.finish();
            prop_assert_eq!(received.incomplete, u64::from(lost), "{:?} {:?}", received, heaps);
            prop_assert_eq!(received.mismatched, u64::from(!lost), "{:?} {:?}", received, heaps);
        }

        /// Neither cnts nor lengths nor offsets from the wire make it take more than it may.
        #[test]
        fn arbitrary_packets_neither_panic_nor_take_memory(
            packets in prop::collection::vec(
                (any::<[u64; 4]>(), 0_u32..64, prop::collection::vec(any::<u64>(), 0..6), 0_usize..64), 0..200
            ),
            first_cnt: u64, cnt_step: u64, heaps in prop::option::of(0_u64..9),
        ) {
            let flavour = Flavour::SPEAD_64_40;
            let expectation = Expectation {
                first_cnt, cnt_step, heaps, heaps_in_flight: 4, ..Expectation::new(flavour, vec![(0x3300, 100)])
            };
            let most = 4 * expectation.max_heap_len;
            let mut assembler = Assembler::new(expectation);
            for ([cnt, length, offset, _], shift, pointers, payload) in packets {
                let mut packet = vec![0; HEADER_LEN];
                PacketHeader {
                    flavour,
                    item_pointers: pointers.len() as u16,
                    heap_cnt: cnt >> shift,
                    heap_length: length >> shift,
                    payload_offset: offset >> shift.max(50),
                    payload_length: payload as u64,
                }
                .emit(&mut packet);
                let ids = [item::STREAM_CTRL, TIMESTAMP_ITEM, 0x3300, item::NULL];
                for pointer in pointers {
                    let id = ids[pointer as usize % ids.len()] << 40;
                    packet.extend((pointer & (1 << 63 | 0x7f) | id).to_be_bytes());
                }
                packet.resize(packet.len() + payload, 0);
                assembler.datagram(&packet);
                assert!(allocated(&assembler) <= most);
                assert!(assembler.place_of_cnt.len() <= 4);
            }
            let _ = assembler.finish();
        }

        #[test]
        fn arbitrary_bytes_are_no_packets(bytes: Vec<u8>) {
            let expectation = Expectation::new(Flavour::SPEAD_64_40, vec![(0x3300, 100)]);
            let mut assembler = Assembler::new(expectation);
            assembler.datagram(&bytes);
            prop_assert_eq!(assembler.finish().not_spead, 1);
        }
    }
}
