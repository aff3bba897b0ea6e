//! A numpy file of any kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell_cli::source::arbitrary_npy(bytes));
