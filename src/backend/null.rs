//! Nowhere: packets are taken and left where they are. What remains is what filling, stamping and accounting cost.

use std::ops::Range;
use std::sync::Arc;

use super::wait::Wait;
use super::{Backend, Caps, Counters, Done, OpenError, SendError, anonymous_memory};
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Memory, Region};

/// Takes packets for any number of destinations, and is done with them at once.
#[derive(Debug)]
pub struct Null {
    caps: Caps,
    counters: Counters,
    done: Vec<Done>,
}

impl Null {
    /// For `flows` destinations.
    pub fn new(flows: u32) -> Self {
        let caps = Caps { flows, ..Caps::new(NAME) };
        Self { caps, counters: Counters::default(), done: Vec::new() }
    }
}

#[expect(unsafe_code, reason = "the contract of the trait")]
// SAFETY: it reads nothing.
unsafe impl Backend for Null {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        anonymous_memory(NAME, arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, _: &mut [Batch]) -> Result<(), OpenError> {
        self.caps.check(region)
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let posted = packets.end - packets.start;
        self.counters.doorbells += 1;
        self.counters.messages += 1;
        self.counters.packets += u64::from(posted);
        Done { slot: batch.slot(), packets, error: None }.join(&mut self.done);
        Ok(posted)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        done.append(&mut self.done);
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        if !self.done.is_empty() {
            wait.not_at_all();
        }
        Ok(())
    }

    fn pace(&mut self, _: Rate) -> Result<bool, SendError> {
        Ok(false)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

/// As in `--backend`.
pub(crate) const NAME: &str = "null";
