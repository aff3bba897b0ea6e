//! Nearly right packets against a model: every byte of payload is a function of the heap's cnt and its place, so
//! that any heap that is handed out holds exactly those, whatever was claimed, lost, doubled or reordered. A
//! byte says what the window is like, and each five after it what a packet is.
#![no_main]

use std::collections::HashSet;

use doorbell::receive::{Content, Heap, Window, WindowConfig};
use doorbell::wire::{Flavour, HEADER_LEN, ItemPointer, PacketHeader};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, mut rest)) = bytes.split_first() else { return };
    let config = WindowConfig {
        heaps: 1 + usize::from(kind & 7),
        max_heap_len: 1 << 12,
        substreams: 1 + usize::from(kind >> 7),
    };
    let flavour = if kind & 8 == 0 { Flavour::SPEAD_64_40 } else { Flavour::SPEAD_64_48 };
    let base = if kind & 16 == 0 { 1 } else { flavour.max_value() - 4 };
    let mut window = Window::new(config);
    let mut model = Model::default();
    let mut given = 0;
    while let [a, b, c, d, e, more @ ..] = rest {
        rest = more;
        let cnt = base + u64::from(a & 31) & flavour.max_value();
        let heap_length = [0, 7, 4096, 64, 65, 4097, 1000, 64][usize::from(a >> 5)];
        let payload_offset = match d >> 6 {
            3 => u64::from(*b) << 32,
            _ => u64::from(*b) * if e & 1 == 0 { 1 } else { 16 },
        };
        let payload_length = u64::from(*c);
        let header = PacketHeader {
            flavour,
            item_pointers: 1,
            heap_cnt: cnt,
            heap_length,
            payload_offset,
            payload_length,
        };
        let mut packet = vec![0; HEADER_LEN];
        header.emit(&mut packet);
        packet.extend(ItemPointer::addressed(flavour, ITEM, 0).to_be_bytes());
        packet.extend((0..payload_length).map(|at| byte(cnt, payload_offset.wrapping_add(at))));
        let source = (e & 8 != 0).then(|| ([192, 0, 2, 1], u16::from(e >> 4)).into());
        window.datagram_from(usize::from(d & 1), source, &packet);
        given += 1;
        if e & 2 != 0 {
            window.settle();
        }
        model.take(&mut window);
        if window.is_exhausted() || e & 4 != 0 {
            model.held.drain(..).for_each(|heap| window.give_back(heap));
        }
        assert!(window.memory() <= 6 * config.max_heap_len);
    }
    window.finish();
    model.take(&mut window);
    let tally = window.tally();
    assert_eq!((tally.packets + tally.not_spead, tally.heaps), (given, model.heaps), "{tally:?}");
    assert!(tally.ignored + tally.refused + tally.heaps + tally.incomplete <= given, "{tally:?}");
    assert!(tally.missing < 1 << 30, "{tally:?}");
});

/// What was handed out.
#[derive(Default)]
struct Model {
    seen: HashSet<(usize, u32, u64)>,
    heaps: u64,
    held: Vec<Heap>,
}

impl Model {
    fn take(&mut self, window: &mut Window) {
        while let Some(heap) = window.take() {
            let cnt = heap.cnt();
            let is_new = self.seen.insert((heap.substream(), heap.stream(), cnt));
            assert!(is_new, "heap {cnt} came out twice");
            self.heaps += 1;
            let item = heap.items().find_map(|(id, content)| match content {
                Content::Addressed(bytes) if id == ITEM => Some(bytes),
                _ => None,
            });
            let bytes = item.unwrap_or_else(|| panic!("heap {cnt} lacks its item"));
            for (at, &found) in bytes.iter().enumerate() {
                assert_eq!(found, byte(cnt, at as u64), "byte {at} of {} of heap {cnt}", bytes.len());
            }
            self.held.push(heap);
        }
    }
}

fn byte(cnt: u64, at: u64) -> u8 {
    (cnt.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) ^ (at >> 8)) as u8
}

const ITEM: u64 = 0x3300;
