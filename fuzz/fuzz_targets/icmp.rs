//! What a socket's error queue says, be it of zero-copy or of ICMP.
#![no_main]

use doorbell::backend::arbitrary_notice;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arbitrary_notice(bytes));
