//! What the thread that posts is told to do.

use std::time::{Duration, Instant};

use super::{Batch, Sender};
use crate::pacer::Rate;
use crate::region::Slot;

/// What to submit, and how.
#[derive(Debug)]
pub struct Job {
    /// The batch.
    pub batch: Batch,
    /// How many of its heaps, the first ones.
    pub heaps: u32,
    /// A rate to keep to in place of the sender's.
    pub rate: Option<Rate>,
    /// When it may be posted, with all that is submitted after it; `None` is at once.
    pub not_before: Option<Instant>,
    /// A number that comes back with the batch.
    pub tag: u64,
}

impl Job {
    /// The first `heaps` heaps of a batch, at once, at the sender's rate.
    pub fn new(batch: Batch, heaps: u32) -> Self {
        Self { batch, heaps, rate: None, not_before: None, tag: 0 }
    }
}

/// What a pipeline is told.
pub(super) enum Command {
    Submit(Job),
    Repeat(Recurring),
    /// To be run where the sender is.
    Call(Box<dyn FnOnce(&mut Sender) + Send>),
}

/// A batch that is submitted again and again.
pub(super) struct Recurring {
    /// None while it is in flight.
    pub(super) batch: Option<Batch>,
    pub(super) slot: Slot,
    pub(super) every: Duration,
    /// Until when; jobs wait until then.
    pub(super) before_jobs: Option<Instant>,
    /// The cnt of its first heap and the step, the same each time; else it takes the next ones.
    pub(super) cnts: Option<(u64, u64)>,
    /// When it is due.
    pub(super) due: Instant,
}
