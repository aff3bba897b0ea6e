//! A capture file of any kind, its datagrams put together to heaps.
#![no_main]

use std::io::Cursor;

use doorbell::receive::{Capture, Window, WindowConfig};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(mut capture) = Capture::new(Box::new(Cursor::new(bytes.to_vec())), None) else { return };
    let mut window = Window::new(WindowConfig { heaps: 4, max_heap_len: 1 << 16, substreams: 0 });
    while !capture.is_over() && capture.receive(&mut window).is_ok() {
        while let Some(heap) = window.take() {
            window.give_back(heap);
        }
    }
    window.finish();
    assert_eq!(capture.names().len(), window.tally().substreams.len());
});
