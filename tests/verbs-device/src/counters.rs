//! What a context counts, and the line it leaves behind.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

/// One thing that is counted; its place in [`NAMES`].
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    Posts,
    Doorbells,
    Wrs,
    Sges,
    Bytes,
    Signalled,
    Frames,
    Dropped,
    Completions,
    Errors,
    CqEvents,
    CqOverruns,
    Checksum,
    ChannelsAlive,
    PdsAlive,
    MrsAlive,
    PinnedBytes,
    CqsAlive,
    QpsAlive,
}

/// The counters of one context.
#[derive(Default)]
pub(crate) struct Counters([AtomicI64; NAMES.len()]);

impl Counters {
    pub(crate) fn add(&self, counter: Counter, amount: i64) {
        // Nothing is ordered by a counter.
        self.0[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, counter: Counter, value: i64) {
        self.0[counter as usize].store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self, counter: Counter) -> i64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }

    /// Whether anything was created and not destroyed.
    pub(crate) fn any_alive(&self) -> bool {
        (Counter::ChannelsAlive as usize..NAMES.len())
            .any(|alive| self.0[alive].load(Ordering::Relaxed) != 0)
    }

    /// Appends a line of JSON to a file. `closed` tells a context that was closed from one that was
    /// still open when the program ended.
    pub(crate) fn append_to(&self, path: &Path, device: &str, closed: bool) -> io::Result<()> {
        let mut line = format!("{{\"device\": \"{device}\", \"closed\": {closed}");
        for (name, value) in NAMES.iter().zip(&self.0) {
            let _ = write!(line, ", \"{name}\": {}", value.load(Ordering::Relaxed));
        }
        line.push_str("}\n");
        OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
    }
}

const NAMES: [&str; 19] = [
    "posts",
    "doorbells",
    "wrs",
    "sges",
    "bytes",
    "signalled",
    "frames",
    "dropped",
    "completions",
    "errors",
    "cq_events",
    "cq_overruns",
    "checksum",
    "channels_alive",
    "pds_alive",
    "mrs_alive",
    "pinned_bytes",
    "cqs_alive",
    "qps_alive",
];
