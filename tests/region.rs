//! However a payload is written, the same bytes are sent, and no others are touched.

mod capture;

use std::io::Write;
use std::sync::Arc;

use doorbell::plan::{HeapSpec, Item, Order, PacketSize, Plan};
use doorbell::region::{Batch, ImmediateError, Layout, PayloadMut, Placement, Region, RegionError};
use doorbell::sender::Sender;
use doorbell::wire::{Descriptor, Flavour, Packet};
use proptest::prelude::*;
use proptest::sample::select;

use self::capture::Capture;

proptest! {
    /// Heaps of two kinds in one batch, whose packets may lie evenly for all that.
    #[test]
    fn a_stamp_is_the_cnt_of_its_heap_and_touches_nothing_else(
        first in 0_usize..1000,
        others in 0_usize..1000,
        heaps in 1_usize..5,
        limit in select(vec![104_usize, 320, 1472]),
        uniform: bool,
        layout in select(vec![Layout::Packed, Layout::Split]),
        cnt in select(vec![0, 1, (1 << 32) - 2]),
        step in 1_u64..4,
    ) {
        let flavour = Flavour::new(32).unwrap();
        let size = if uniform { PacketSize::Uniform { limit } } else { PacketSize::Exact(limit) };
        let heap = |size| HeapSpec::new().immediate(0x1600, 0).payload(ID, size);
        let plan = Plan::builder(flavour, size)
            .heaps(&heap(first), 1)
            .heaps(&heap(others), heaps)
            .build()
            .unwrap();
        let (_, mut batches) =
            Region::allocate(&Arc::new(plan), layout, 1, Placement::ADJACENT, Vec::new()).unwrap();
        let mut batch = batches.remove(0);
        let mut fill_lens = Vec::new();
        for heap in 0..batch.heaps() {
            let filled = vec![0xaa; batch.payload(heap).len()];
            batch.fill(heap, &filled);
            fill_lens.push(filled.len());
        }
        let all = batch.heaps();
        let batch = batch.stamp(all, cnt, step);
        let plan = batch.region().plan();
        for (number, planned) in (0..).zip(plan.packets()) {
            let bytes = batch.packet(number).to_vec();
            let packet = Packet::parse(&bytes).unwrap();
            let expected = (cnt + step * u64::from(planned.heap)) & flavour.max_value();
            prop_assert_eq!(packet.header().heap_cnt, expected);
            // Heaps that are too short are padded with zeros.
            let data = fill_lens[planned.heap as usize].saturating_sub(planned.payload_offset);
            let data = data.min(packet.payload().len());
            prop_assert!(packet.payload()[..data].iter().all(|byte| *byte == 0xaa));
        }
    }

    #[test]
    fn payload_is_written_in_place(
        items in prop::collection::vec((0_usize..400, any::<bool>()), 1..6),
        limit in select(vec![88_usize, 200, 1472, 8972]),
        order in select(vec![Order::Serial, Order::RoundRobin]),
        layout in select(vec![Layout::Packed, Layout::Split]),
        way in select(vec![Writing::Fill, Writing::Chunks, Writing::Writer, Writing::Items]),
    ) {
        // Constants are all ones, fills are not.
        let spec = items.iter().enumerate().fold(HeapSpec::new(), |heap, (index, &(size, fill))| {
            let id = ID + index as u64;
            match fill {
                true => heap.payload(id, size),
                false => heap.with(Item::Constant { id, bytes: vec![0xff; size] }),
            }
        });
        let capture = Capture::default();
        let mut sender = Sender::new(capture.backend(&["[2001:db8::7]:7148"]));
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit })
            .heaps(&spec, 3)
            .order(order);
        let plan = Arc::new(plan.build().unwrap());
        let mut batches = sender.allocate(&plan, layout, 2, Vec::new()).unwrap();
        let mut batch = batches.remove(0);
        // What is in the batch beside it is not to be seen in this one.
        for heap in 0..3 {
            batches[0].fill(heap, &vec![0xee; plan.heap_len(heap)]);
        }
        let mut expected = Vec::new();
        for heap in 0..3_u32 {
            let mut fills = Vec::new();
            let mut whole = Vec::new();
            for &(size, fill) in &items {
                let next = fills.len();
                if fill {
                    fills.extend((next..next + size).map(|index| (index % 251) as u8 ^ heap as u8));
                    whole.extend(&fills[next..]);
                } else {
                    whole.resize(whole.len() + size, 0xff);
                }
            }
            whole.resize(plan.heap_len(heap), 0);
            prop_assert_eq!(batch.payload(heap).len(), fills.len());
            way.write(&mut batch, heap, &items, &fills);

            let one_piece = layout == Layout::Split || plan.packets_of_heap(heap) == 1;
            if items.len() == 1 && items[0].1 && items[0].0 > 0 {
                prop_assert!(!one_piece || batch.payload(heap).into_slice().is_some());
            }
            expected.push(whole);
        }
        sender.submit(batch).unwrap();
        prop_assert_eq!(sender.wait().unwrap().sent(), 3);
        for packet in capture.packets() {
            let packet = Packet::parse(&packet).unwrap();
            let heap = &expected[packet.header().heap_cnt as usize - 1];
            let offset = packet.header().payload_offset as usize;
            prop_assert_eq!(packet.payload(), &heap[offset..offset + packet.payload().len()]);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Writing {
    Fill,
    Chunks,
    Writer,
    Items,
}

impl Writing {
    fn write(self, batch: &mut Batch, heap: u32, items: &[(usize, bool)], fills: &[u8]) {
        let mut rest = fills;
        match self {
            // One byte more than fits.
            Self::Fill => assert_eq!(batch.fill(heap, &[fills, &[0]].concat()), fills.len()),
            Self::Chunks => rest = write_chunks(batch.payload(heap), rest),
            Self::Writer => {
                let mut writer = batch.payload(heap).writer();
                // In two goes that need not end where chunks do.
                let (first, second) = fills.split_at(fills.len() / 3);
                writer.write_all(first).unwrap();
                writer.write_all(second).unwrap();
                assert_eq!(writer.write(&[0]).unwrap(), 0, "the payload is full");
            }
            Self::Items => {
                for (index, &(size, fill)) in items.iter().enumerate() {
                    let item = batch.item(heap, ID + index as u64);
                    assert_eq!(item.len(), if fill { size } else { 0 });
                    rest = write_chunks(item, rest);
                }
                assert!(batch.item(heap, 0x1600).is_empty());
            }
        }
        assert!(rest.is_empty() || matches!(self, Self::Fill | Self::Writer));
    }
}

fn write_chunks<'a>(payload: PayloadMut<'_>, mut bytes: &'a [u8]) -> &'a [u8] {
    // All at once: they must not overlap.
    let chunks: Vec<&mut [u8]> = payload.chunks().collect();
    for chunk in chunks {
        assert!(!chunk.is_empty());
        let (now, later) = bytes.split_at(chunk.len());
        chunk.copy_from_slice(now);
        bytes = later;
    }
    bytes
}

#[test]
fn immediates_change_in_every_packet_that_has_them() {
    let capture = Capture::default();
    let mut sender = Sender::new(capture.backend(&["192.0.2.7:7148"]));
    let spec = HeapSpec::new().immediate(0x1600, 3).payload(0x3300, 4096).immediate(0x1601, 4);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit: 1472 })
        .heaps(&spec, 2)
        .repeat_pointers(true);
    let plan = Arc::new(plan.build().unwrap());
    let mut batch = sender.allocate(&plan, Layout::Packed, 1, Vec::new()).unwrap().remove(0);
    let refusal = |result: Result<(), ImmediateError>| result.unwrap_err().to_string();
    assert_eq!(
        refusal(batch.set_immediate(1, 0x1601, 1 << 40)),
        "1099511627776 does not fit immediate 0x1601: the flavour's end at 1099511627775"
    );
    assert_eq!(refusal(batch.set_immediate(1, 0x1602, 1)), "the heap has no immediate 0x1602");
    batch.set_immediate(1, 0x1601, u64::MAX >> 24).unwrap();
    sender.submit(batch).unwrap();
    assert_eq!(sender.wait().unwrap().sent(), 2);
    for packet in capture.packets() {
        let packet = Packet::parse(&packet).unwrap();
        let flavour = packet.header().flavour;
        let values: Vec<u64> = packet
            .item_pointers()
            .filter(|pointer| pointer.is_immediate())
            .map(|pointer| pointer.value(flavour))
            .collect();
        let last = [4, flavour.max_value()][packet.header().heap_cnt as usize - 1];
        assert_eq!(values, [3, last]);
    }
}

#[test]
fn what_cannot_be_laid_out_is_named() {
    let allocate = |heap: &HeapSpec, layout| {
        let plan = Plan::builder(Flavour::SPEAD_64_48, PacketSize::Exact(65_504)).heaps(heap, 2);
        Region::allocate(
            &Arc::new(plan.build().unwrap()),
            layout,
            1,
            Placement::ADJACENT,
            Vec::new(),
        )
        .map(|_| ())
    };
    let described = HeapSpec::new()
        .descriptor(Descriptor { id: 0x3300, ..Descriptor::default() })
        .payload(0x3300, 64);
    assert!(matches!(
        allocate(&described, Layout::Attached),
        Err(RegionError::Constant { heap: 0 })
    ));
    let large = HeapSpec::new().payload(0x3300, 3 << 30);
    assert!(matches!(allocate(&large, Layout::Packed), Err(RegionError::BatchSize)));
    assert!(matches!(allocate(&large, Layout::Split), Err(RegionError::BatchSize)));
    assert!(allocate(&large, Layout::Attached).is_ok());
}

const ID: u64 = 0x3300;
