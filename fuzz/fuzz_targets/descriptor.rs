//! A descriptor of any kind, after a byte that says how long it is, and an item that it describes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&len, rest)) = bytes.split_first() else { return };
    let (descriptor, item) = rest.split_at(usize::from(len).min(rest.len()));
    doorbell::receive::fuzz::arbitrary_descriptor(descriptor, item);
});
