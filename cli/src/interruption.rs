//! How a signal ends a stream.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use doorbell::sender::Stop;
use doorbell::stream::Monitor;

use super::exit::Failure;
use super::plural;
use super::signals::{Attendant, attend};

/// What a signal raises.
pub struct Interruption {
    /// Ends the stream.
    pub stop: Stop,
    /// Ends what is read as it comes, which ends with the stream, whyever that ends.
    pub ended: Stop,
    pub standing: Standing,
}

impl Interruption {
    /// Has signals end a stream, whether it is open already or not.
    pub fn attend() -> Result<Self, Failure> {
        let new = || Stop::new().map_err(|error| Failure::Usage(format!("no eventfd: {error}")));
        let (stop, ended, standing) = (new()?, new()?, Standing::default());
        let (all, last, awaited) = ([stop.clone(), ended.clone()], stop.clone(), standing.clone());
        attend(Attendant {
            stop: Box::new(move || all.iter().for_each(Stop::raise)),
            abort: Box::new(move || last.abort()),
            awaited: Box::new(move || awaited.words()),
            patience: PATIENCE,
            last: LAST,
        })?;
        Ok(Self { stop, ended, standing })
    }
}

/// How a stream stands, once it is open.
#[derive(Clone, Default)]
pub struct Standing(Arc<OnceLock<(Monitor, u64)>>);

impl Standing {
    /// Says that it is open, and how long its heaps are.
    pub fn set(&self, stream: Monitor, heap_len: u64) {
        // There is one stream.
        let _ = self.0.set((stream, heap_len));
    }

    /// What an end has to wait for, if anything was begun.
    fn words(&self) -> Option<String> {
        let (stream, heap_len) = self.0.get()?;
        let figures = stream.figures();
        let sent = figures.payload_bytes / heap_len.max(&1);
        Some(match figures.heaps.saturating_sub(sent + figures.heaps_failed) {
            0 => "the stop heap goes".into(),
            heaps => format!("{} under way and the stop heap go", plural(heaps, "heap")),
        })
    }
}

/// What goes within that time goes; the next is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// To give up: what waits for a receiver over TCP takes longest.
const LAST: Duration = Duration::from_secs(6);
