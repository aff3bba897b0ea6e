//! Heaps in any order, with and without loss.

use proptest::prelude::*;

use super::*;
use crate::receive::Content;
use crate::wire::{Flavour, HEADER_LEN, ItemPointer, PacketHeader, StreamControl, item};

const FLAVOUR: Flavour = Flavour::SPEAD_64_48;

fn packet(cnt: u64, pointer: ItemPointer, len: usize, offset: usize, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    PacketHeader {
        flavour: FLAVOUR,
        item_pointers: 1,
        heap_cnt: cnt & FLAVOUR.max_value(),
        heap_length: len as u64,
        payload_offset: offset as u64,
        payload_length: data.len() as u64,
    }
    .emit(&mut packet);
    packet.extend(pointer.to_be_bytes());
    packet.extend_from_slice(data);
    packet
}

/// The packets of a heap of `len` bytes, each of them the cnt's lowest.
fn heap(cnt: u64, len: usize) -> Vec<Vec<u8>> {
    let bytes = vec![cnt as u8; len];
    let pointer = ItemPointer::addressed(FLAVOUR, 0x3300, 0);
    let chunks = bytes.chunks(100).zip((0..).step_by(100));
    chunks.map(|(data, offset)| packet(cnt, pointer, len, offset, data)).collect()
}

fn stop(cnt: u64) -> Vec<u8> {
    let stop = ItemPointer::immediate(FLAVOUR, item::STREAM_CTRL, StreamControl::Stop as u64);
    packet(cnt, stop, 1, 0, &[0])
}

fn window(heaps: usize, substreams: usize) -> Window {
    Window::new(WindowConfig { heaps, max_heap_len: 1 << 20, substreams })
}

fn cnts(window: &mut Window) -> Vec<u64> {
    std::iter::from_fn(|| {
        let heap = window.take()?;
        let cnt = heap.cnt();
        let (id, content) = heap.items().next().unwrap();
        let Content::Addressed(bytes) = content else { panic!("{content:?}") };
        assert!(id == 0x3300 && bytes.iter().all(|&byte| byte == cnt as u8));
        window.give_back(heap);
        Some(cnt)
    })
    .collect()
}

#[test]
fn a_lost_heap_holds_up_no_more_than_the_window() {
    let mut window = window(4, 1);
    let feed =
        |window: &mut Window, cnt| heap(cnt, 250).iter().for_each(|it| window.datagram(0, it));
    (1..4).for_each(|cnt| feed(&mut window, cnt));
    assert_eq!(cnts(&mut window), [1, 2, 3]);
    // Heap 4 does not come, and 5 to 8 wait for it.
    (5..9).for_each(|cnt| feed(&mut window, cnt));
    assert_eq!(cnts(&mut window), [0_u64; 0]);
    feed(&mut window, 9);
    assert_eq!(cnts(&mut window), [5, 6, 7, 8, 9]);
    // A packet of heap 10 is lost.
    heap(10, 250)[1..].iter().for_each(|it| window.datagram(0, it));
    (11..13).for_each(|cnt| feed(&mut window, cnt));
    assert_eq!(cnts(&mut window), [0_u64; 0]);
    assert!(window.is_waiting());
    window.datagram(0, &stop(13));
    assert!(window.is_stopped());
    window.finish();
    assert_eq!(cnts(&mut window), [11, 12]);
    // Too late.
    window.datagram(0, &heap(10, 250)[0]);
    let tally = window.tally();
    assert_eq!((tally.heaps, tally.incomplete, tally.missing), (10, 1, 1));
    assert_eq!((tally.ignored, tally.packets), (1, 3 * 10 + 2 + 1 + 1));
    assert!(tally.substreams[0].stopped);
}

#[test]
fn what_is_settled_does_not_wait() {
    let mut window = window(8, 1);
    for cnt in [1, 3, 4] {
        heap(cnt, 250).iter().for_each(|it| window.datagram(0, it));
    }
    // Cnts may be two apart, for all that is known when 3 comes; 4 says that 2 is missing.
    let before = cnts(&mut window);
    window.settle();
    assert_eq!([before, cnts(&mut window)].concat(), [1, 3, 4]);
    // What is on its way when enough has come is not missing.
    window.datagram(0, &heap(5, 250)[0]);
    window.abandon();
    let tally = window.tally();
    assert_eq!((tally.heaps, tally.incomplete, tally.missing), (3, 0, 1));
}

#[test]
fn heaps_that_are_too_long_take_no_memory() {
    let mut window = window(8, 1);
    let pointer = ItemPointer::addressed(FLAVOUR, 0x3300, 0);
    window.datagram(0, &packet(1, pointer, (1 << 20) + 1, 0, &[0; 10]));
    assert_eq!((window.memory(), window.tally().refused), (0, 1));
    assert_eq!(window.tally().first_refusal, Some((1, Refusal::TooLong((1 << 20) + 1))));
    // Those that are not hold the window to twice the longest.
    for cnt in 2..8 {
        window.datagram(0, &packet(cnt, pointer, 1 << 20, 0, &[0; 10]));
        assert!(window.memory() <= 4 << 20);
    }
    assert_eq!(window.tally().incomplete, 4);
}

/// A packet without a heap length, which may claim any offset.
#[test]
fn no_heap_length_is_no_heap() {
    let mut packet = packet(1, ItemPointer::addressed(FLAVOUR, 0x3300, 0), 9, 9, &[]);
    let other = ItemPointer::immediate(FLAVOUR, item::STREAM_CTRL, 0).to_be_bytes();
    packet[16..24].copy_from_slice(&other);
    let length = ItemPointer::immediate(FLAVOUR, item::PAYLOAD_LENGTH, 4).to_be_bytes();
    packet[32..40].copy_from_slice(&length);
    packet.extend([1, 2, 3, 4]);
    let mut window = window(4, 1);
    for _ in 0..2 {
        window.datagram(0, &packet);
    }
    window.finish();
    assert_eq!((window.tally().packets, window.tally().refused), (2, 2));
    assert_eq!((window.memory(), cnts(&mut window).len()), (0, 0));
}

prop_compose! {
    /// Packets that are nearly right, so that something comes of them.
    fn near_packets()(
        cnt in 0_u64..6,
        heap_length in prop_oneof![0_u64..300, Just(1 << 16), any::<u64>()],
        offset in prop_oneof![0_u64..300, any::<u64>()],
        data in prop::collection::vec(any::<u8>(), 0..300),
        fits: bool,
        damage in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
    ) -> Vec<u8> {
        let (offset, heap_length) = match fits {
            true => (0, data.len() as u64),
            false => (offset & FLAVOUR.max_value(), heap_length & FLAVOUR.max_value()),
        };
        let pointer = ItemPointer::addressed(FLAVOUR, 0x3300, 0);
        let mut packet = packet(cnt, pointer, heap_length as usize, offset as usize, &data);
        if let Some((at, byte)) = damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet
    }
}

proptest! {
    #[test]
    fn memory_is_bounded_whatever_packets_claim(
        packets in prop::collection::vec((0_usize..3, near_packets()), 0..60),
    ) {
        let config = WindowConfig { heaps: 4, max_heap_len: 1 << 16, substreams: 2 };
        let mut window = Window::new(config);
        let mut held = Vec::new();
        for (substream, packet) in &packets {
            window.datagram(*substream, packet);
            held.extend(std::iter::from_fn(|| window.take()));
            // Twice the longest heap in the window, twice handed out, and what one datagram lets out.
            prop_assert!(window.memory() <= 6 * config.max_heap_len, "{}", window.memory());
            if window.is_exhausted() {
                held.drain(..).for_each(|heap| window.give_back(heap));
            }
        }
        window.finish();
        let tally = window.tally();
        prop_assert_eq!(tally.packets + tally.not_spead, packets.len() as u64);
        prop_assert!(tally.heaps + tally.incomplete <= tally.packets);
    }

    /// Packets in any order within the window, some twice, over several substreams; cnts wrap.
    #[test]
    fn heaps_come_out_whole_and_in_order(
        first in prop_oneof![Just(0_u64), Just((1 << 48) - 5), 0_u64..1 << 48],
        substreams in 1_usize..4,
        lens in prop::collection::vec(1_usize..600, 1..20),
        keys in prop::collection::vec(any::<u32>(), 200),
        twice in prop::collection::vec(any::<bool>(), 200),
    ) {
        let mut packets = Vec::new();
        for (index, &len) in lens.iter().enumerate() {
            for packet in heap(first.wrapping_add(index as u64), len) {
                packets.push((index % substreams, packet));
            }
        }
        let mut order: Vec<usize> = (0..packets.len()).collect();
        order.sort_by_key(|&index| keys[index % keys.len()]);
        let mut window = window(lens.len(), substreams);
        let mut duplicates = 0;
        let mut out = Vec::new();
        for index in order {
            let (substream, packet) = &packets[index];
            window.datagram(*substream, packet);
            if twice[index % twice.len()] {
                window.datagram(*substream, packet);
                duplicates += 1;
            }
        }
        out.extend(cnts(&mut window));
        window.finish();
        out.extend(cnts(&mut window));
        let expected: Vec<u64> =
            (0..lens.len() as u64).map(|index| first.wrapping_add(index) & FLAVOUR.max_value()).collect();
        let tally = window.tally();
        prop_assert_eq!((tally.heaps, tally.incomplete, tally.missing), (lens.len() as u64, 0, 0));
        prop_assert_eq!(tally.ignored, duplicates);
        if substreams > 1 {
            prop_assert_eq!(out, expected);
        } else {
            out.sort_by_key(|cnt| cnt.wrapping_sub(first) & FLAVOUR.max_value());
            prop_assert_eq!(out, expected);
        }
    }
}
