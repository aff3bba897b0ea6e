use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::wire::{
    Descriptor, Field, Flavour, HEADER_LEN, ITEM_POINTER_LEN, ItemPointer, MIN_PACKET_SIZE, Packet,
    StreamControl, item,
};

#[test]
fn a_heap_of_16_kib_makes_two_equal_jumbo_packets() {
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 16384);
    assert_eq!(lengths(&heap, 8972), [8240, 8240]);
}

/// The heaps whose packets differ most where each is as long as can be.
#[test]
fn packets_of_common_heaps_are_equal() {
    for (size, limit, fewest) in [(2048, 1472, 2), (4096, 1472, 3), (16384, 1472, 12)] {
        let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, size);
        let lengths = lengths(&heap, limit);
        assert!(lengths.iter().all(|&len| len == lengths[0]), "{size} in {limit}: {lengths:?}");
        assert!((fewest..=fewest + 1).contains(&lengths.len()), "{size} in {limit}: {lengths:?}");
    }
}

#[test]
fn a_heap_of_one_byte_is_one_packet() {
    let heap = HeapSpec::new().payload(0x3300, 1);
    assert_eq!(lengths(&heap, 1472), [HEADER_LEN + ITEM_POINTER_LEN + 1]);
    let stop = HeapSpec::control(StreamControl::Stop);
    assert_eq!(lengths(&stop, 1472), [HEADER_LEN + 2 * ITEM_POINTER_LEN + 1]);
    assert_eq!(lengths(&HeapSpec::new(), 1472), [HEADER_LEN + ITEM_POINTER_LEN + 1]);
}

/// Where smaller packets have too little payload to carry all pointers, packets are not made smaller.
#[test]
fn equal_packets_never_cost_a_pointer() {
    let heap = (0..19)
        .fold(HeapSpec::new().payload(0x3300, 17), |heap, id| heap.immediate(0x1600 + id, id));
    let case = |uniform| Case {
        flavour: Flavour::SPEAD_64_40,
        heaps: vec![heap.clone()],
        limit: 128,
        uniform,
        repeat_pointers: false,
        order: Order::Serial,
        flows: 1,
    };
    let (uniform, exact) = (case(true).plan(), case(false).plan());
    assert_eq!(uniform.packets(), exact.packets());
    let pointers: usize =
        uniform.packets().iter().map(|packet| packet.header_len as usize - HEADER_LEN).sum();
    assert_eq!(pointers, 20 * ITEM_POINTER_LEN);
}

#[test]
fn what_cannot_be_planned_is_named() {
    let flavour = Flavour::SPEAD_64_40;
    let build = |heap: &HeapSpec, size: usize, count: usize| {
        let builder = Plan::builder(flavour, PacketSize::Exact(size)).heaps(heap, count);
        builder.build().map(|plan| plan.packets().len())
    };
    let heap = HeapSpec::new().payload(0x3300, 1024);
    assert_eq!(build(&heap, 55, 1), Err(PlanError::PacketSize { size: 55 }));
    assert_eq!(build(&heap, 65_528, 1), Err(PlanError::PacketSize { size: 65_528 }));
    assert_eq!(build(&heap, usize::MAX, 1), Err(PlanError::PacketSize { size: usize::MAX }));
    assert_eq!(build(&heap, 1472, 0), Err(PlanError::NoHeaps));
    assert_eq!(build(&heap, 1472, usize::MAX), Err(PlanError::TooManyPackets));
    let endless = HeapSpec::new().payload(0x3300, 1 << 39);
    assert_eq!(build(&endless, 1472, 1), Err(PlanError::TooManyPackets));
    for id in [0, item::HEAP_CNT, item::PAYLOAD_LENGTH, 1 << 23] {
        let heap = HeapSpec::new().immediate(id, 0);
        assert_eq!(build(&heap, 1472, 1), Err(PlanError::Id { id, flavour }));
    }
    let value = 1 << 40;
    assert_eq!(
        build(&HeapSpec::new().immediate(9, value), 1472, 1),
        Err(PlanError::Immediate { id: 9, value, flavour })
    );
    let size = 1 << 40;
    assert_eq!(
        build(&HeapSpec::new().payload(9, size), 1472, 1),
        Err(PlanError::HeapSize { size: size as u64, flavour })
    );
    let builder = Plan::builder(flavour, PacketSize::Exact(1472)).heaps(&heap, 1);
    assert_eq!(builder.flows(0).build().unwrap_err(), PlanError::NoFlows);
    let crowded = (0..4).fold(HeapSpec::new(), |heap, id| heap.immediate(0x1600 + id, 0));
    let size = |size| Plan::builder(flavour, PacketSize::Exact(size)).heaps(&crowded, 1);
    let needed = 40 + 4 * 8 + 8 + 8;
    assert_eq!(
        size(needed - 8).repeat_pointers(true).build().unwrap_err(),
        PlanError::RepeatPointers { items: 4, size: needed - 8, needed }
    );
    assert!(size(needed).repeat_pointers(true).build().is_ok());
}

#[test]
fn heaps_end_where_addresses_do() {
    let flavour = Flavour::new(16).unwrap();
    let build = |heap: HeapSpec| {
        Plan::builder(flavour, PacketSize::Exact(1472)).heaps(&heap, 1).build().map(|_| ())
    };
    assert_eq!(build(HeapSpec::new().payload(9, 65_535)), Ok(()));
    assert_eq!(
        build(HeapSpec::new().payload(9, 65_535).payload(10, 1)),
        Err(PlanError::HeapSize { size: 65_536, flavour })
    );
    // Padding counts: one packet for each pointer, of eight bytes each.
    let flavour = Flavour::new(8).unwrap();
    let pointers = (0..40).fold(HeapSpec::new(), |heap, id| heap.immediate(0x1600 + id, 0));
    assert_eq!(
        Plan::builder(flavour, PacketSize::Exact(56)).heaps(&pointers, 1).build().unwrap_err(),
        PlanError::HeapSize { size: 40 * 8 + 1, flavour }
    );
}

proptest! {
    #[test]
    fn packets_tile_heaps_and_say_so(case in cases()) {
        let plan = case.plan();
        for heap in 0..plan.heaps() {
            let spec = &case.heaps[heap as usize];
            let mut packets: Vec<_> = plan.packets().iter().filter(|p| p.heap == heap).collect();
            packets.sort_by_key(|packet| packet.index);
            prop_assert_eq!(packets.len(), plan.packets_of_heap(heap) as usize);
            let (expected, len) = pointers(spec, plan.flavour(), case.limit);
            prop_assert_eq!(plan.heap_len(heap), len);
            let fill_len: usize = spec.items().iter().filter_map(|item| match item {
                Item::Payload { size, allow_immediate, .. } => Some((*size, *allow_immediate)),
                _ => None,
            }).filter(|&(size, inline)| !inline || size > plan.flavour().address_bytes())
                .map(|(size, _)| size).sum();
            let fills = &plan.shape(heap).fills;
            prop_assert_eq!(fills.iter().map(|(_, range)| range.len()).sum::<usize>(), fill_len);
            let mut found = Vec::new();
            let mut end = 0;
            for (index, packet) in packets.into_iter().enumerate() {
                prop_assert_eq!(packet.index as usize, index);
                prop_assert_eq!(packet.flow, heap % plan.flows());
                prop_assert_eq!(packet.payload_offset, end);
                prop_assert!(packet.payload_len > 0);
                prop_assert!(packet.len() <= case.limit / 8 * 8);
                end += packet.payload_len;

                let mut bytes = plan.header(packet).to_vec();
                prop_assert_eq!(bytes.len(), packet.header_len as usize);
                bytes.resize(packet.len(), 0xaa);
                let parsed = Packet::parse(&bytes).unwrap();
                prop_assert_eq!(parsed.header().flavour, plan.flavour());
                prop_assert_eq!(parsed.header().heap_cnt, 0);
                prop_assert_eq!(parsed.header().heap_length, plan.heap_len(heap) as u64);
                prop_assert_eq!(parsed.header().payload_offset, packet.payload_offset as u64);
                prop_assert_eq!(parsed.payload().len(), packet.payload_len);
                let pointers = parsed.item_pointers();
                if case.repeat_pointers {
                    prop_assert!(pointers.eq(expected.iter().copied()));
                } else {
                    found.extend(pointers);
                }
            }
            prop_assert_eq!(end, plan.heap_len(heap));
            if !case.repeat_pointers {
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn uniform_packets_are_equal_and_few(case in cases()) {
        let uniform = Case { uniform: true, ..case.clone() }.plan();
        let exact = Case { uniform: false, ..case.clone() }.plan();
        for heap in 0..uniform.heaps() {
            let of = |plan: &Plan| -> Vec<usize> {
                plan.packets().iter().filter(|p| p.heap == heap).map(PlannedPacket::len).collect()
            };
            let (equal, fewest) = (of(&uniform), of(&exact));
            prop_assert!((fewest.len()..=fewest.len() + 1).contains(&equal.len()));
            let (pointers, len) = pointers(&case.heaps[heap as usize], case.flavour, case.limit);
            let fit = MIN_PACKET_SIZE + pointers.len() * ITEM_POINTER_LEN;
            let average = fewest.iter().sum::<usize>() / fewest.len();
            if len % ITEM_POINTER_LEN == 0 && average >= fit {
                prop_assert!(equal.iter().all(|len| len == &equal[0]), "{:?}", equal);
            }
        }
    }

    #[test]
    fn both_orders_hold_the_same_packets(case in cases()) {
        let serial = Case { order: Order::Serial, ..case.clone() }.plan();
        let robin = Case { order: Order::RoundRobin, ..case }.plan();
        let sorted = |plan: &Plan, key: fn(&PlannedPacket) -> (u32, u32, u32)| {
            let mut packets = plan.packets().to_vec();
            packets.sort_by_key(key);
            packets
        };
        let serial_packets = sorted(&serial, |packet| (packet.flow, packet.heap, packet.index));
        prop_assert_eq!(&serial_packets, serial.packets());
        prop_assert_eq!(&serial_packets, &sorted(&robin, |packet| (packet.flow, packet.heap, packet.index)));
        let rounds = sorted(&robin, |packet| (packet.index, packet.heap, 0));
        prop_assert_eq!(rounds, robin.packets());
        for heap in 0..robin.heaps() {
            for (index, &packet) in robin.packets_of(heap).iter().enumerate() {
                let packet = &robin.packets()[packet as usize];
                prop_assert_eq!((packet.heap, packet.index as usize), (heap, index));
            }
        }
    }

    #[test]
    fn packets_of_first_heaps_are_those(case in cases(), more in 0_u32..3) {
        let plan = case.plan();
        for heaps in 0..=plan.heaps() + more {
            let ranges: Vec<_> = plan.packets_of_first(heaps).collect();
            let found: Vec<u32> = ranges.iter().cloned().flatten().collect();
            let expected: Vec<u32> = (0..plan.packets().len() as u32)
                .filter(|&packet| plan.packets()[packet as usize].heap < heaps)
                .collect();
            prop_assert_eq!(found, expected);
            // Each as long as can be, as each is a doorbell.
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert!(ranges.iter().all(|range| !range.is_empty()));
        }
    }

    #[test]
    fn runs_keep_to_limits(
        case in cases(),
        limits in (1_u32..9, 1_u32..70_000)
            .prop_map(|(segments, bytes)| RunLimits { segments, bytes }),
    ) {
        let plan = case.plan();
        let packets = plan.packets();
        let runs: Vec<Run> = runs(packets, limits).collect();
        let mut end = 0;
        for run in &runs {
            prop_assert_eq!(run.packets.start, end);
            end = run.packets.end;
            let packets = &packets[run.packets.start as usize..end as usize];
            let (last, others) = packets.split_last().unwrap();
            prop_assert!(packets.len() as u32 <= limits.segments);
            prop_assert!(packets.len() == 1 || run.bytes <= limits.bytes);
            prop_assert_eq!(packets.iter().map(PlannedPacket::len).sum::<usize>(), run.bytes as usize);
            prop_assert!(packets.iter().all(|packet| packet.flow == run.flow));
            prop_assert!(others.iter().all(|packet| packet.len() == run.segment as usize));
            prop_assert!(last.len() <= run.segment as usize);
        }
        prop_assert_eq!(end as usize, packets.len());
        // None could have taken the first packet of the next.
        for pair in runs.windows(2) {
            let next = &packets[pair[1].packets.start as usize];
            let last = &packets[pair[0].packets.end as usize - 1];
            let full = pair[0].packets.len() as u32 == limits.segments
                || pair[0].bytes as usize + next.len() > limits.bytes as usize;
            let unlike = next.flow != pair[0].flow || next.len() > pair[0].segment as usize;
            prop_assert!(full || unlike || last.len() < pair[0].segment as usize);
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    flavour: Flavour,
    heaps: Vec<HeapSpec>,
    limit: usize,
    uniform: bool,
    repeat_pointers: bool,
    order: Order,
    flows: u32,
}

impl Case {
    fn plan(&self) -> Plan {
        let size = match self.uniform {
            true => PacketSize::Uniform { limit: self.limit },
            false => PacketSize::Exact(self.limit),
        };
        self.heaps
            .iter()
            .fold(Plan::builder(self.flavour, size), |builder, heap| builder.heaps(heap, 1))
            .repeat_pointers(self.repeat_pointers)
            .order(self.order)
            .flows(self.flows)
            .build()
            .unwrap()
    }
}

/// Packet sizes are such that `repeat_pointers` can be honoured.
fn cases() -> impl Strategy<Value = Case> {
    let flavour = select(vec![24, 32, 40, 48]).prop_map(|bits| Flavour::new(bits).unwrap());
    let heaps = prop::collection::vec(heaps(), 1..6);
    let limit = prop_oneof![56_usize..200, select(vec![1472, 1479, 8972, 9000, 65_507])];
    let order = select(vec![Order::Serial, Order::RoundRobin]);
    (flavour, heaps, limit, any::<bool>(), any::<bool>(), order, 1_u32..4).prop_map(
        |(flavour, heaps, limit, uniform, repeat_pointers, order, flows)| {
            let items = heaps.iter().map(|heap| heap.items().len()).max().unwrap_or(0);
            let least = MIN_PACKET_SIZE + items * ITEM_POINTER_LEN;
            let limit = if repeat_pointers { limit.max(least) } else { limit };
            Case { flavour, heaps, limit, uniform, repeat_pointers, order, flows }
        },
    )
}

fn heaps() -> impl Strategy<Value = HeapSpec> {
    let size = prop_oneof![
        0_usize..20,
        0_usize..10_000,
        (0_usize..1250).prop_map(|words| 8 * words),
        select(vec![1024, 2048, 4096, 8192, 16384]),
    ];
    let id = 0x17_u64..0x7fff;
    let item = prop_oneof![
        3 => (id.clone(), 0_u64..1 << 24).prop_map(|(id, value)| Item::Immediate { id, value }),
        4 => (id.clone(), size, any::<bool>())
            .prop_map(|(id, size, allow_immediate)| Item::Payload { id, size, allow_immediate }),
        1 => (id.clone(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(id, bytes)| Item::Constant { id, bytes }),
        1 => (id, "[a-z]{0,20}").prop_map(|(id, name)| Item::Descriptor(Descriptor {
            id,
            name,
            format: vec![Field::new(b'u', 10)],
            ..Descriptor::default()
        })),
    ];
    prop::collection::vec(item, 0..12)
        .prop_map(|items| items.into_iter().fold(HeapSpec::new(), HeapSpec::with))
}

/// The item pointers that a heap must have, and its length, from the protocol's own words.
fn pointers(spec: &HeapSpec, flavour: Flavour, limit: usize) -> (Vec<ItemPointer>, usize) {
    let mut end = 0;
    let mut pointers: Vec<ItemPointer> = spec
        .items()
        .iter()
        .map(|item| {
            let (id, len) = match item {
                Item::Immediate { id, value } => {
                    return ItemPointer::immediate(flavour, *id, *value);
                }
                Item::Payload { id, size, allow_immediate: true }
                    if *size <= flavour.address_bits() as usize / 8 =>
                {
                    return ItemPointer::immediate(flavour, *id, 0);
                }
                Item::Payload { id, size, .. } => (*id, *size),
                Item::Constant { id, bytes } => (*id, bytes.len()),
                Item::Descriptor(descriptor) => {
                    (item::DESCRIPTOR, descriptor.encode(flavour).unwrap().len())
                }
            };
            end += len;
            ItemPointer::addressed(flavour, id, (end - len) as u64)
        })
        .collect();
    // Each packet that is full of pointers has eight bytes of payload, and the last has one.
    let full = pointers.len() / ((limit - HEADER_LEN) / 8 - 1);
    if end < 8 * full + 1 {
        pointers.push(ItemPointer::addressed(flavour, item::NULL, end as u64));
        end = 8 * full + 1;
    }
    (pointers, end)
}

fn lengths(heap: &HeapSpec, limit: usize) -> Vec<usize> {
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit })
        .heaps(heap, 1)
        .build()
        .unwrap();
    plan.packets().iter().map(PlannedPacket::len).collect()
}
