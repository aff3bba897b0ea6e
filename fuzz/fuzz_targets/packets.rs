//! Packets of any kind, put together to heaps and read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell::receive::fuzz::arbitrary_packets(bytes));
