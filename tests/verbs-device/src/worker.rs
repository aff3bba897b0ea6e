//! The thread that executes requests, as a NIC does while the program goes on.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::context::Adapter;
use crate::send_queue::{Scratch, SendQueue, Step};

/// Send queues with something to execute, and the thread that does.
#[derive(Default)]
pub(crate) struct Worker {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    active: Vec<Arc<SendQueue>>,
    stop: bool,
}

impl Worker {
    /// The doorbell.
    pub(crate) fn schedule(&self, queue: &Arc<SendQueue>) {
        let mut state = self.state.lock().unwrap();
        if !state.active.iter().any(|active| Arc::ptr_eq(active, queue)) {
            state.active.push(Arc::clone(queue));
        }
        self.wake.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().unwrap().stop = true;
        self.wake.notify_one();
    }

    pub(crate) fn run(&self, adapter: &Adapter) {
        let mut scratch = Scratch::default();
        let mut due = None;
        while let Some(active) = self.wait(adapter, due) {
            due = None;
            let mut ran = false;
            for queue in active {
                match queue.run(adapter, &mut scratch) {
                    Step::Ran => ran = true,
                    Step::Due(at) => due = Some(due.map_or(at, |due: Instant| due.min(at))),
                    Step::Idle => self.retire(&queue),
                }
            }
            if ran {
                due = None;
            }
        }
    }

    /// The queues to look at, once the next request is due. None at the end.
    fn wait(&self, adapter: &Adapter, mut due: Option<Instant>) -> Option<Vec<Arc<SendQueue>>> {
        let mut state = self.state.lock().unwrap();
        loop {
            let back = adapter.port.bring_back(&adapter.events);
            if state.stop {
                return None;
            }
            let now = Instant::now();
            due = due.filter(|due| *due > now);
            if due.is_none() && !state.active.is_empty() {
                return Some(state.active.clone());
            }
            state = match due.into_iter().chain(back).min() {
                Some(at) => {
                    let time = at.saturating_duration_since(now);
                    let (state, result) = self.wake.wait_timeout(state, time).unwrap();
                    if !result.timed_out() {
                        // A doorbell: what it rings for may be due before.
                        due = None;
                    }
                    state
                }
                None => self.wake.wait(state).unwrap(),
            };
        }
    }

    fn retire(&self, queue: &Arc<SendQueue>) {
        let mut state = self.state.lock().unwrap();
        // Under the lock: a post that came after the look is scheduled after this.
        if queue.is_idle() {
            state.active.retain(|active| !Arc::ptr_eq(active, queue));
        }
    }
}
