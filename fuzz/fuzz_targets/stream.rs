//! Packets as TCP carries them, one after the other, read in pieces of any length: a byte says how many lengths
//! follow it.
#![no_main]

use doorbell::receive::arbitrary_stream;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&count, rest)) = bytes.split_first() else { return };
    let (pieces, stream) = rest.split_at(usize::from(count).min(rest.len()));
    arbitrary_stream(stream, pieces);
});
