//! A configuration file of any kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| doorbell::config::fuzz::arbitrary_toml(text));
