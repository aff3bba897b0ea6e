//! What must hold whatever a file says: the body of a fuzz target, which the tests run, too.

use std::path::Path;

use super::{Config, Options};

/// Reads `text` as a configuration file.
///
/// # Panics
///
/// If what it comes to, written down, comes to something else.
pub fn arbitrary_toml(text: &str) {
    let Ok(options) = Options::from_toml(text, Path::new("fuzz.toml")) else { return };
    let Ok(config) = Config::from_options(options) else { return };
    let written = config.to_toml();
    let read = Options::from_toml(&written, Path::new("written.toml")).map(Config::from_options);
    assert!(matches!(&read, Ok(Ok(read)) if *read == config), "{written}\nreads as {read:?}");
}
