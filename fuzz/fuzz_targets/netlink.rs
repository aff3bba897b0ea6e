//! A reply of the kernel about routes and links.
#![no_main]

use doorbell::backend::arbitrary_reply;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arbitrary_reply(bytes));
