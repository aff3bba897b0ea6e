//! A configuration file of any kind: what it comes to, written down, comes to the same.
#![no_main]

use std::path::Path;

use doorbell_cli::config::{Config, ConfigError, Options};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let read = |text: &str| -> Result<Config, ConfigError> {
        let mut options = Options::default();
        options.read_toml(text, Path::new("fuzz.toml"))?;
        Config::from_options(options)
    };
    let Ok(config) = read(text) else { return };
    let written = config.to_toml();
    let again = read(&written);
    assert!(again.as_ref() == Ok(&config), "{written}\nreads as {again:?}");
});
