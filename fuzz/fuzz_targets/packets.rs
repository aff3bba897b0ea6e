//! Packets of any kind, each after two bytes that say how long it is, put together to heaps and read.
#![no_main]

use doorbell::receive::{Catalogue, Window, WindowConfig};
use doorbell_fuzz::read_frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let config = WindowConfig { heaps: 4, max_heap_len: 1 << 16, substreams: 2 };
    let mut window = Window::new(config);
    let mut catalogue = Catalogue::default();
    let mut held = Vec::new();
    let mut packets = 0;
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(len));
        let (packet, after) = after.split_at(len.min(after.len()));
        rest = after;
        packets += 1;
        window.datagram(len % 2, packet);
        while let Some(heap) = window.take() {
            catalogue.learn(&heap);
            for (id, content) in heap.items() {
                let described = catalogue.item(id);
                if let Some(Ok(item_type)) = described.map(|it| &it.item_type) {
                    read_frame(item_type, content);
                }
            }
            held.push(heap);
        }
        // Twice the longest heap in the window, twice handed out, and what one datagram lets out.
        let (memory, bound) = (window.memory(), 6 * config.max_heap_len);
        assert!(memory <= bound, "{memory} bytes are held, where {bound} may be");
        if window.is_exhausted() {
            held.drain(..).for_each(|heap| window.give_back(heap));
        }
    }
    window.finish();
    let tally = window.tally();
    assert_eq!(tally.packets + tally.not_spead, packets);
    assert!(tally.heaps + tally.incomplete <= tally.packets);
});
