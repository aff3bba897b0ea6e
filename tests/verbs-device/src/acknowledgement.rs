//! Events that were handed out and not acknowledged yet: their object may not be destroyed.

use std::sync::{Condvar, Mutex};

/// How many events of an object its user holds.
#[derive(Default)]
pub(crate) struct Acknowledgement {
    held: Mutex<u32>,
    none_held: Condvar,
}

impl Acknowledgement {
    pub(crate) fn hand_out(&self) {
        *self.held.lock().unwrap() += 1;
    }

    pub(crate) fn acknowledge(&self, events: u32) {
        let mut held = self.held.lock().unwrap();
        *held = held.saturating_sub(events);
        if *held == 0 {
            self.none_held.notify_all();
        }
    }

    /// Blocks until every event is acknowledged, as destroying verbs do.
    pub(crate) fn wait(&self) {
        let held = self.held.lock().unwrap();
        drop(self.none_held.wait_while(held, |held| *held > 0).unwrap());
    }
}
