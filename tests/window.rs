//! What a window says of streams that lose packets, start again and come to several substreams.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use doorbell::receive::{Content, Heap, Refusal, Window, WindowConfig};
use doorbell::wire::{
    Descriptor, Flavour, HEADER_LEN, ItemPointer, PacketHeader, StreamControl, item,
};
use proptest::prelude::*;

const FLAVOUR: Flavour = Flavour::SPEAD_64_40;
const ITEM: u64 = 0x3300;

fn packet(cnt: u64, pointers: &[ItemPointer], len: usize, offset: usize, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    PacketHeader {
        flavour: FLAVOUR,
        item_pointers: pointers.len() as u16,
        heap_cnt: cnt & FLAVOUR.max_value(),
        heap_length: len as u64,
        payload_offset: offset as u64,
        payload_length: data.len() as u64,
    }
    .emit(&mut packet);
    pointers.iter().for_each(|pointer| packet.extend(pointer.to_be_bytes()));
    packet.extend_from_slice(data);
    packet
}

/// The packets of a heap, of 100 bytes of payload each.
fn heap(cnt: u64, bytes: &[u8]) -> Vec<Vec<u8>> {
    let pointer = [ItemPointer::addressed(FLAVOUR, ITEM, 0)];
    let chunks = bytes.chunks(100).zip((0..).step_by(100));
    chunks.map(|(data, offset)| packet(cnt, &pointer, bytes.len(), offset, data)).collect()
}

fn descriptors(cnt: u64) -> Vec<u8> {
    let descriptor = Descriptor { id: ITEM, name: "samples".into(), ..Descriptor::default() };
    let bytes = descriptor.encode(FLAVOUR).unwrap();
    let pointer = [ItemPointer::addressed(FLAVOUR, item::DESCRIPTOR, 0)];
    packet(cnt, &pointer, bytes.len(), 0, &bytes)
}

fn stop(cnt: u64) -> Vec<u8> {
    let stop = ItemPointer::immediate(FLAVOUR, item::STREAM_CTRL, StreamControl::Stop as u64);
    packet(cnt, &[stop], 0, 0, &[])
}

/// The payload of a heap: that of no two is alike.
fn payload(stream: u64, cnt: u64, len: usize) -> Vec<u8> {
    let mut state =
        stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ cnt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

fn window(heaps: usize, substreams: usize) -> Window {
    Window::new(WindowConfig { heaps, max_heap_len: 1 << 23, substreams })
}

fn source(port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::from(([192, 0, 2, 7], port)))
}

/// The bytes of a heap's item; none if it has only descriptors.
fn bytes(heap: &Heap) -> Option<Vec<u8>> {
    heap.items().find_map(|(id, content)| match content {
        Content::Addressed(bytes) if id == ITEM => Some(bytes.to_vec()),
        _ => None,
    })
}

/// Substream, stream, cnt and bytes of what a window hands out.
fn taken(window: &mut Window) -> Vec<(usize, u32, u64, Vec<u8>)> {
    let mut taken = Vec::new();
    while let Some(heap) = window.take() {
        if let Some(bytes) = bytes(&heap) {
            taken.push((heap.substream(), heap.stream(), heap.cnt(), bytes));
        }
        window.give_back(heap);
    }
    taken
}

/// Two senders count alike, on two ports: nothing of one is in a heap of the other.
#[test]
fn equal_cnts_on_two_substreams_are_two_heaps() {
    for len in [80, 450] {
        let mut window = window(8, 2);
        let mut out = Vec::new();
        for cnt in 1..=200 {
            let both = [0, 1].map(|at| heap(cnt, &payload(at, cnt, len)));
            for (one, other) in both[0].iter().zip(&both[1]) {
                window.datagram(0, one);
                window.datagram(1, other);
            }
            out.extend(taken(&mut window));
        }
        for substream in 0..2 {
            assert!(!window.is_stopped());
            window.datagram(substream, &stop(201));
        }
        assert!(window.is_stopped());
        window.finish();
        out.extend(taken(&mut window));
        assert_eq!(out.len(), 400);
        for (substream, _, cnt, bytes) in out {
            assert_eq!(bytes, payload(substream as u64, cnt, len), "heap {cnt} of {substream}");
        }
        let tally = window.tally();
        assert!(tally.is_whole() && tally.has_ended() && tally.ignored == 0, "{tally:?}");
    }
}

/// A fast substream does not push out the heaps of a slow one.
#[test]
fn a_substream_has_a_window_of_its_own() {
    let mut window = window(4, 2);
    let slow: Vec<Vec<u8>> = (1..=4).flat_map(|cnt| heap(cnt, &payload(0, cnt, 40_000))).collect();
    let mut fast = (1..=2000).map(|cnt| heap(cnt, &payload(1, cnt, 90)).remove(0));
    let mut heaps = 0;
    for packet in &slow {
        window.datagram(0, packet);
        fast.by_ref().take(2).for_each(|packet| window.datagram(1, &packet));
        heaps += taken(&mut window).len();
    }
    fast.for_each(|packet| window.datagram(1, &packet));
    window.finish();
    assert_eq!(heaps + taken(&mut window).len(), 2004);
    assert_eq!((window.tally().incomplete, window.tally().missing), (0, 0));
}

/// What a stream's restart looks like: from elsewhere, after a stop heap, after descriptors, or far back.
#[test]
fn a_sender_that_starts_again_makes_another_stream() {
    let run = |id: u64, heaps: u64, len: usize| {
        (2..2 + heaps).flat_map(move |cnt| heap(cnt, &payload(id, cnt, len)))
    };
    for len in [70, 350] {
        for (heaps, again, ports, stopped, described) in [
            (3, 5, [1, 2], false, false),
            (3, 5, [1, 2], false, true),
            (3, 5, [1, 1], true, false),
            (3, 5, [1, 1], false, true),
            (3, 5, [1, 1], true, true),
            (1, 3, [1, 1], true, true),
            (2000, 2000, [1, 1], false, false),
            (2000, 2000, [1, 2], true, true),
        ] {
            let case =
                format!("{heaps} heaps of {len}, then {again}, {ports:?} {stopped} {described}");
            let mut window = window(64, 1);
            let mut out = Vec::new();
            for (id, (count, port)) in [heaps, again].into_iter().zip(ports).enumerate() {
                let first = described.then(|| descriptors(1));
                let last = (stopped || id == 1).then(|| stop(count + 2));
                for packet in first.into_iter().chain(run(id as u64, count, len)).chain(last) {
                    window.datagram_from(0, source(port), &packet);
                    out.extend(taken(&mut window));
                }
            }
            window.finish();
            out.extend(taken(&mut window));
            assert_eq!(out.len() as u64, heaps + again, "{case}");
            for (_, stream, cnt, bytes) in out {
                let id = u64::from(stream > 0);
                assert_eq!(bytes, payload(id, cnt, len), "heap {cnt}: {case}");
            }
            let tally = window.tally();
            assert!(tally.is_whole() && tally.has_ended(), "{tally:?}: {case}");
            assert_eq!(tally.substreams[0].restarts, 1, "{case}");
        }
    }
}

/// What comes late or twice starts nothing.
#[test]
fn duplicates_are_no_restart() {
    let mut window = window(16, 1);
    let packets: Vec<_> = (2..300).flat_map(|cnt| heap(cnt, &payload(0, cnt, 250))).collect();
    window.datagram_from(0, source(1), &descriptors(1));
    for (at, packet) in packets.iter().enumerate() {
        window.datagram_from(0, source(1), packet);
        window.datagram_from(0, source(1), &packets[at.saturating_sub(20)]);
        taken(&mut window);
    }
    window.datagram_from(0, source(1), &stop(300));
    packets[packets.len() - 9..].iter().for_each(|it| window.datagram_from(0, source(1), it));
    window.finish();
    let tally = window.tally();
    assert_eq!((tally.heaps, tally.substreams[0].restarts), (298, 0));
    assert_eq!(tally.ignored, packets.len() as u64 + 9);
    assert!(tally.is_whole() && tally.has_ended());
}

/// One packet with a made-up cnt changes nothing of what is said of all others.
#[test]
fn a_made_up_cnt_makes_no_heaps_missing() {
    for forged in [1 << 39, 1 << 30, 900, 5000, 0, FLAVOUR.max_value()] {
        for forged in [heap(forged, &[0; 50]).remove(0), stop(forged)] {
            let mut window = window(16, 1);
            for cnt in 200..400 {
                heap(cnt, &payload(0, cnt, 250)).iter().for_each(|it| window.datagram(0, it));
                if cnt == 300 {
                    window.datagram(0, &forged);
                }
            }
            window.datagram(0, &stop(400));
            window.finish();
            let tally = window.tally();
            assert_eq!((tally.incomplete, tally.missing), (0, 0), "{tally:?}");
            assert!((200..=201).contains(&tally.heaps), "{tally:?}");
        }
    }
}

/// The stop heap's cnt says how many heaps were to come, and the first cnt how many had been.
#[test]
fn what_is_lost_at_either_end_is_counted() {
    let feed = |mut window: Window, cnts: std::ops::Range<u64>, end: Option<u64>| {
        for cnt in cnts {
            window.datagram(0, &heap(cnt, &payload(0, cnt, 50))[0]);
        }
        end.iter().for_each(|&end| window.datagram(0, &stop(end)));
        window.finish();
        window.tally()
    };
    let tally = feed(window(64, 1), 328..3478, Some(5002));
    assert_eq!((tally.heaps, tally.missing), (3150, 1524));
    assert_eq!(tally.substreams[0].first_cnt, Some(328));
    let tally = feed(window(64, 1).beginning_at(2), 328..3478, Some(5002));
    assert_eq!((tally.heaps, tally.missing), (3150, 326 + 1524));
    let tally = feed(window(64, 1), 1..100, None);
    assert!(tally.is_whole() && !tally.has_ended());
    // A long loss in between.
    let mut window = window(64, 1);
    for cnt in (1..1000).chain(90_000..91_000) {
        window.datagram(0, &heap(cnt, &payload(0, cnt, 50))[0]);
    }
    window.finish();
    assert_eq!((window.tally().heaps, window.tally().missing), (1999, 89_000));
}

/// A packet's word about its heap's length counts only if it agrees with the heap's.
#[test]
fn a_length_that_contradicts_completes_nothing() {
    let bytes = payload(0, 4, 300);
    for (lie, offset, data) in
        [(0, 0, &[][..]), (0, 100, &[]), (100, 0, &bytes[..100]), (200, 100, &bytes[100..200])]
    {
        let mut window = window(16, 1);
        window.datagram(0, &heap(4, &bytes)[0]);
        let pointer = [ItemPointer::addressed(FLAVOUR, ITEM, 0)];
        window.datagram(0, &packet(4, &pointer, lie, offset, data));
        window.finish();
        assert!(taken(&mut window).is_empty(), "{lie}");
        let tally = window.tally();
        assert_eq!((tally.heaps, tally.incomplete, tally.refused + tally.not_spead), (0, 1, 1));
        assert!(tally.first_refusal.is_none_or(|it| it == (4, Refusal::Contradiction)));
        assert!(!tally.is_whole());
    }
}

/// Heaps of thousands of items lose none, and those with more than any may have are refused.
#[test]
fn items_are_not_cut_off() {
    let many = |count: u64| {
        let mut packets = Vec::new();
        let len = count as usize * 4;
        for start in (0..count).step_by(5000) {
            let ids = start..count.min(start + 5000);
            let pointers: Vec<_> = ids
                .clone()
                .map(|id| ItemPointer::addressed(FLAVOUR, 0x1000 + id, id * 4))
                .collect();
            let data = vec![7; 4 * pointers.len()];
            packets.push(packet(1, &pointers, len, 4 * start as usize, &data));
        }
        packets
    };
    let mut window = window(4, 1);
    many(12_000).iter().for_each(|it| window.datagram(0, it));
    let heap = window.take().unwrap();
    assert_eq!(heap.items().count(), 12_000);
    assert!(heap.items().all(|(_, content)| content == Content::Addressed(&[7; 4])));
    window.give_back(heap);
    many(70_000).iter().for_each(|it| window.datagram(0, it));
    window.finish();
    assert!(window.take().is_none());
    let tally = window.tally();
    assert_eq!((tally.heaps, tally.incomplete), (1, 0), "the cnt was there before");
    let mut window = self::window(4, 1);
    many(70_000).iter().for_each(|it| window.datagram(0, it));
    window.finish();
    let tally = window.tally();
    assert_eq!(
        (tally.heaps, tally.incomplete, tally.first_refusal),
        (0, 1, Some((1, Refusal::TooManyItems)))
    );
}

/// A sender's life: descriptors, heaps, a stop heap.
#[derive(Clone, Debug)]
struct Run {
    heaps: u64,
    lens: Vec<usize>,
    /// For each packet: when it arrives, whether it does, whether it comes again.
    fates: Vec<(u8, u8, u8)>,
    loses: bool,
    same_source: bool,
    loses_stop: bool,
}

prop_compose! {
    fn runs()(
        heaps in 8_u64..40,
        lens in prop::collection::vec(16_usize..700, 1..6),
        fates in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 50),
        loses: bool, same_source: bool, loses_stop: bool,
    ) -> Run {
        Run { heaps, lens, fates, loses, same_source, loses_stop }
    }
}

/// What is known to be right of a run.
#[derive(Debug)]
struct Expected {
    sent: u64,
    whole: u64,
    incomplete: u64,
    stopped: bool,
}

proptest! {
    /// For each stream, what came whole, what did not, and what never came is what was sent from its first
    /// heap that was seen on: up to the stop heap, or else to the last that was seen. What tells streams
    /// apart arrives: descriptors do, and so does the stop heap before a sender that goes on at the same
    /// address.
    #[test]
    fn every_heap_that_was_sent_is_accounted_for(
        all in prop::collection::vec(prop::collection::vec(runs(), 1..4), 1..4),
        first in prop_oneof![1_u64..5, Just(FLAVOUR.max_value() - 20)],
        step in 1_u64..4,
    ) {
        let mut window = window(64, all.len());
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        let mut queues = Vec::new();
        for (substream, runs) in all.iter().enumerate() {
            let mut queue = Vec::new();
            let mut port = 1;
            for (index, run) in runs.iter().enumerate() {
                let id = (substream * 10 + index) as u64;
                port += u16::from(!run.same_source);
                let is_last = index + 1 == runs.len();
                let must_stop = !is_last && runs[index + 1].same_source;
                let mut packets = vec![(0_usize, 0_u64, descriptors(first))];
                for at in 1..=run.heaps {
                    let cnt = first.wrapping_add(at * step) & FLAVOUR.max_value();
                    let len = run.lens[at as usize % run.lens.len()];
                    packets.extend(heap(cnt, &payload(id, cnt, len)).into_iter().map(|it| (0, at, it)));
                }
                packets.push((0, run.heaps + 1, stop(first.wrapping_add((run.heaps + 1) * step))));
                let mut seen = BTreeMap::<u64, (usize, usize)>::new();
                let mut arrive = Vec::new();
                for (index, (_, at, packet)) in packets.iter().enumerate() {
                    let (late, lost, twice) = run.fates[index % run.fates.len()];
                    let is_data = (1..=run.heaps).contains(at);
                    let is_lost = match is_data {
                        true => run.loses && lost < 20,
                        false => *at > 0 && run.loses_stop && !must_stop,
                    };
                    let entry = seen.entry(*at).or_default();
                    entry.1 += 1;
                    if is_lost {
                        continue;
                    }
                    entry.0 += 1;
                    // What begins and ends a stream stays in its place.
                    let key = 8 * index + if is_data { usize::from(late % 64) } else { 0 };
                    let key = if *at == 0 { 0 } else if is_data { key } else { usize::MAX };
                    arrive.push((key, packet.clone()));
                    if is_data && twice < 20 {
                        arrive.push((key + usize::from(twice), packet.clone()));
                    }
                }
                arrive.sort_by_key(|(key, _)| *key);
                queue.extend(arrive.into_iter().map(|(_, packet)| (port, packet)));
                let came: Vec<u64> = seen.iter().filter(|(at, (came, _))| {
                    (1..=run.heaps).contains(*at) && *came > 0
                }).map(|(at, _)| *at).collect();
                // Heaps that are always two apart tell of no others.
                prop_assume!(came.windows(2).any(|pair| pair[1] - pair[0] == 1));
                let stopped = seen[&(run.heaps + 1)].0 > 0;
                let whole = came.iter().filter(|at| seen[at].0 == seen[at].1).count() as u64;
                let sent = if stopped { run.heaps } else { *came.last().unwrap() };
                expected.push(Expected { sent, whole, incomplete: came.len() as u64 - whole, stopped });
            }
            queues.push((substream, queue, runs.len()));
        }
        // Substreams take turns.
        let longest = queues.iter().map(|(_, queue, _)| queue.len()).max().unwrap();
        for at in 0..longest {
            for (substream, queue, _) in &queues {
                if let Some((port, packet)) = queue.get(at) {
                    window.datagram_from(*substream, source(*port), packet);
                    out.extend(taken(&mut window));
                }
            }
        }
        window.finish();
        out.extend(taken(&mut window));
        let tally = window.tally();
        let sum = |of: fn(&Expected) -> u64| expected.iter().map(of).sum::<u64>();
        let came: Vec<_> = out.iter().map(|(at, stream, cnt, _)| (at, stream, cnt)).collect();
        prop_assert_eq!(tally.heaps, sum(|it| it.whole), "{:?} {:?} {:?} {:?}", tally, came, expected, all.iter().map(|it| it.iter().map(|it| it.same_source).collect::<Vec<_>>()).collect::<Vec<_>>());
        prop_assert_eq!(tally.incomplete, sum(|it| it.incomplete), "{:?}", tally);
        prop_assert_eq!(tally.heaps + tally.incomplete + tally.missing, sum(|it| it.sent), "{:?}", tally);
        prop_assert_eq!(tally.refused, 0);
        let lost = expected.iter().any(|it| it.whole < it.sent);
        prop_assert_eq!(tally.is_whole(), !lost);
        let mut ends = expected.iter();
        for (substream, runs) in all.iter().enumerate() {
            let last = ends.by_ref().take(runs.len()).last().unwrap();
            prop_assert_eq!(tally.substreams[substream].stopped, last.stopped);
            prop_assert_eq!(tally.substreams[substream].restarts as usize, runs.len() - 1);
        }
        // Each holds exactly its bytes, and comes once.
        let mut once = BTreeSet::new();
        for (substream, stream, cnt, bytes) in out {
            let of = (0..all[substream].len()).find(|run| {
                bytes == payload((substream * 10 + run) as u64, cnt, bytes.len())
            });
            prop_assert!(of.is_some(), "heap {} of {} has bytes of no other", cnt, substream);
            prop_assert!(once.insert((substream, of, cnt)), "heap {} of {} twice", cnt, stream);
        }
        prop_assert_eq!(once.len() as u64, tally.heaps);
    }
}

/// Each time a cnt comes again far back, it is of another stream: none comes out twice.
#[test]
fn streams_that_come_to_nothing_are_told_apart() {
    let mut window = window(8, 1);
    let mut out = Vec::new();
    let whole = |cnt| heap(cnt, &payload(0, cnt, 64)).remove(0);
    let empty = |cnt, len| packet(cnt, &[ItemPointer::addressed(FLAVOUR, ITEM, 0)], len, 0, &[]);
    let packets =
        [whole(2), whole(3), whole(4), empty(32, 64), empty(1, 0), empty(1, 0), empty(1, 0)];
    let rest = [whole(10), empty(1, 0), empty(1, 0), empty(1, 0)];
    for packet in packets.iter().chain(&rest) {
        window.datagram(0, packet);
        out.extend(taken(&mut window));
    }
    // A heap that was ahead, until the stream had come by; the last one comes twice.
    window.datagram(0, &heap(20, &payload(0, 20, 300))[0]);
    for cnt in [14, 17, 21, 21] {
        window.datagram(0, &whole(cnt));
        window.settle();
    }
    window.finish();
    out.extend(taken(&mut window));
    let keys: BTreeSet<_> = out.iter().map(|(_, stream, cnt, _)| (stream, cnt)).collect();
    assert_eq!(keys.len(), out.len(), "{out:?}");
}
