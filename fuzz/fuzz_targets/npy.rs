//! A numpy file of any kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell::source::fuzz::arbitrary_npy(bytes));
