//! Threads, which the system may not grant.

use std::thread::{Builder, JoinHandle};

use super::exit::Failure;

/// Starts a thread.
pub fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let started = Builder::new().name(name.into()).spawn(run);
    started.map_err(|error| Failure::Thread { name: name.into(), error })
}
