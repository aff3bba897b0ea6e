//! Who may touch which bytes when. Miri runs these: every layout, and every way to write and to read, none at
//! random, with few bytes.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::plan::{HeapSpec, Order, PacketSize, Plan, RunLimits};
use crate::wire::{Flavour, Packet};

#[test]
fn what_is_written_by_pieces_is_what_packets_carry() {
    let framed = Placement::one_by_one(42);
    // Two packets of 112 bytes at most, four slots in a block.
    let runs = Placement { headroom: 42, run: RunLimits { segments: 2, bytes: 400 }, slots: None };
    let ring = Placement { slots: Some(Slots { multiple: 16, block: 1 << 12 }), ..runs };
    for (layout, placement, order) in [
        (Layout::Packed, Placement::ADJACENT, Order::Serial),
        (Layout::Packed, framed, Order::RoundRobin),
        (Layout::Packed, runs, Order::Serial),
        (Layout::Packed, ring, Order::Serial),
        (Layout::Packed, ring, Order::RoundRobin),
        (Layout::Split, Placement::ADJACENT, Order::RoundRobin),
        (Layout::Split, framed, Order::Serial),
        (Layout::Split, runs, Order::Serial),
    ] {
        let (_, batches) =
            Region::allocate(&plan(order), layout, 2, placement, Vec::new()).unwrap();
        let [mut batch, mut other]: [Batch; 2] = batches.try_into().unwrap();
        for heap in 0..HEAPS {
            let expected = bytes(heap);
            // All pieces at once, each by a thread of its own, while another batch is written.
            thread::scope(|scope| {
                let mut rest = &expected[..];
                for chunk in batch.payload(heap).chunks() {
                    let (now, later) = rest.split_at(chunk.len());
                    scope.spawn(move || chunk.copy_from_slice(now));
                    rest = later;
                }
                assert!(rest.is_empty());
                other.fill(heap, &[0xee; LEN]);
            });
            batch.set_immediate(heap, 0x1600, heap.into()).unwrap();
        }
        assert_eq!(carried(&stamped(batch)), (0..HEAPS).map(bytes).collect::<Vec<_>>());

        for heap in 0..HEAPS {
            let (items, expected) = ([0x3300, 0x3301], bytes(heap));
            for (id, part) in items.into_iter().zip(expected.chunks(LEN / 2)) {
                let mut writer = other.item(heap, id).writer();
                writer.write_all(&part[..1]).unwrap();
                writer.write_all(&part[1..]).unwrap();
            }
        }
        assert_eq!(carried(&stamped(other)), (0..HEAPS).map(bytes).collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_is_read_by_others_until_it_is_taken_back() {
    let plan = plan(Order::Serial);
    let (_, mut batches) =
        Region::allocate(&plan, Layout::Packed, 2, Placement::ADJACENT, Vec::new()).unwrap();
    let mut batch = batches.remove(0);
    for round in 0..2 {
        for heap in 0..HEAPS {
            batch.fill(heap, &bytes(heap + round));
        }
        let in_flight = batch.stamp(HEAPS, 1, 1);
        thread::scope(|scope| {
            let reader = scope.spawn(|| carried(&in_flight));
            batches[0].fill(0, &[0xee; LEN]);
            let packets = plan.packets().len() as u32;
            let all: Vec<u8> =
                (0..packets).flat_map(|packet| in_flight.packet(packet).to_vec()).collect();
            assert_eq!(in_flight.adjacent(0..packets), all);
            let expected: Vec<_> = (0..HEAPS).map(|heap| bytes(heap + round)).collect();
            assert_eq!(reader.join().unwrap(), expected);
        });
        // SAFETY: nobody else has it.
        batch = unsafe { in_flight.reclaim() };
    }
}

#[test]
fn a_heap_is_attached_to_a_part_of_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&(0..HEAPS + 1).flat_map(bytes).collect::<Vec<_>>()).unwrap();
    let sources = vec![Arc::new(Memory::file(file.path()).unwrap())];
    let (plan, framed) = (plan(Order::RoundRobin), Placement::one_by_one(42));
    let (_, mut batches) = Region::allocate(&plan, Layout::Attached, 1, framed, sources).unwrap();
    let mut batch = batches.remove(0);
    for heap in 0..HEAPS {
        let end = (heap as usize + 1) * LEN;
        assert!(!batch.attach(heap, 0, end + HEAPS as usize * LEN) && !batch.attach(heap, 1, 0));
        assert!(batch.attach(heap, 0, end));
    }
    let in_flight = stamped(batch);
    assert_eq!(carried(&in_flight), (1..=HEAPS).map(bytes).collect::<Vec<_>>());
    assert!(in_flight.source(1).equals(&bytes(2)) && in_flight.truncated().is_empty());
}

/// Sends a batch off, and then writes before each run, as backends do.
fn stamped(batch: Batch) -> InFlight {
    let mut in_flight = batch.stamp(HEAPS, 1, 1);
    let arrangement = in_flight.region().clone();
    let (runs, room) =
        (arrangement.arrangement().runs(), arrangement.arrangement().placement().headroom);
    for run in runs {
        for packet in run.packets.clone() {
            let expected = if packet == run.packets.start { room } else { 0 };
            assert_eq!(in_flight.headroom(packet).len(), expected);
            in_flight.headroom(packet).fill(0xdd);
            let bytes = in_flight.packet(packet);
            assert!(bytes.headroom.iter().all(|byte| *byte == 0xdd) && bytes.head[0] == b'S');
        }
    }
    in_flight
}

/// The payload of each heap, by its packets.
fn carried(in_flight: &InFlight) -> Vec<Vec<u8>> {
    let region = in_flight.region();
    let mut heaps = vec![vec![0; LEN]; HEAPS as usize];
    for (number, planned) in (0..).zip(region.plan().packets()) {
        let bytes = in_flight.packet(number);
        let packet = [bytes.head, &bytes.tail.to_vec()].concat();
        let packet = Packet::parse(&packet).unwrap();
        assert_eq!(packet.header().heap_cnt, u64::from(planned.heap) + 1);
        heaps[planned.heap as usize][planned.payload_offset..][..planned.payload_len]
            .copy_from_slice(packet.payload());
    }
    heaps
}

fn bytes(heap: u32) -> Vec<u8> {
    (0..LEN as u32).map(|byte| (byte * 7 + heap * 31) as u8).collect()
}

/// Heaps of two items, in packets that end in the middle of them.
fn plan(order: Order) -> Arc<Plan> {
    let heap =
        HeapSpec::new().immediate(0x1600, 0).payload(0x3300, LEN / 2).payload(0x3301, LEN / 2);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(112))
        .heaps(&heap, HEAPS as usize)
        .order(order);
    Arc::new(plan.build().unwrap())
}

const HEAPS: u32 = 3;
const LEN: usize = 120;
