//! What sends batch after batch: the whole sender, or a backend alone.

use std::time::Duration;

use doorbell::backend::wait::Wait;
use doorbell::backend::{Backend, Counters, Done, SendError};
use doorbell::region::{Batch, InFlight};
use doorbell::sender::{Completion, Sender};

/// Sends batch after batch.
pub trait Load {
    /// Sends a batch as soon as there is one.
    fn send_batch(&mut self) -> Result<(), SendError>;
    /// Waits until all that was sent is done.
    fn drain(&mut self) -> Result<(), SendError>;
    /// What the backend has done so far.
    fn counters(&self) -> Counters;
}

/// Heaps that are stamped, posted and accounted for: what a program does that has nothing to fill.
pub struct Stamped {
    sender: Sender,
    idle: Vec<Batch>,
}

impl Stamped {
    pub fn new(sender: Sender, batches: Vec<Batch>) -> Self {
        Self { sender, idle: batches }
    }

    fn take_back(&mut self, completion: Option<Completion>) -> Result<(), SendError> {
        let Some(completion) = completion else { return Ok(()) };
        if let Some(failure) = completion.failures.first() {
            return Err(failure.error.clone());
        }
        self.idle.push(completion.batch);
        Ok(())
    }
}

impl Load for Stamped {
    fn send_batch(&mut self) -> Result<(), SendError> {
        if self.idle.is_empty() {
            let completion = self.sender.wait();
            self.take_back(completion)?;
        }
        if let Some(batch) = self.idle.pop() {
            // A sender that takes its own batch no more has failed, and says so in completions.
            if let Err(rejected) = self.sender.submit(batch) {
                tracing::error!(%rejected);
                return Err(SendError::Closed);
            }
        }
        let completion = self.sender.poll();
        self.take_back(completion)
    }

    fn drain(&mut self) -> Result<(), SendError> {
        while let Some(completion) = self.sender.wait() {
            self.take_back(Some(completion))?;
        }
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.sender.counters()
    }
}

/// The same bytes again and again, through a backend alone: what the kernel, or the device, takes at
/// most.
pub struct ReadyMade {
    backend: Box<dyn Backend>,
    /// With how many packets of each are not done.
    batches: Vec<(InFlight, u32)>,
    max_in_flight: u32,
    done: Vec<Done>,
    wait: Wait,
}

impl ReadyMade {
    pub fn new(backend: Box<dyn Backend>, batches: Vec<Batch>) -> Self {
        Self {
            max_in_flight: backend.caps().max_in_flight,
            backend,
            batches: batches
                .into_iter()
                .map(|batch| {
                    let heaps = batch.heaps();
                    (batch.stamp(heaps, 1, 1), 0)
                })
                .collect(),
            done: Vec::new(),
            wait: Wait::new(),
        }
    }

    fn wait(&mut self) -> Result<(), SendError> {
        self.backend.prepare_wait(&mut self.wait)?;
        self.wait.block(None, Some(LONGEST_WAIT))
    }

    fn poll(&mut self) -> Result<(), SendError> {
        self.backend.poll(&mut self.done)?;
        for done in self.done.drain(..) {
            if let Some(error) = done.error {
                return Err(error);
            }
            // A region's batches, in order.
            self.batches[done.slot.batch as usize].1 -= done.packets.len() as u32;
        }
        Ok(())
    }

    /// The last that is: as the sender does, whose caches are then as warm.
    fn idle(&self) -> Option<usize> {
        self.batches.iter().rposition(|&(_, outstanding)| outstanding == 0)
    }

    fn outstanding(&self) -> u32 {
        self.batches.iter().map(|(_, outstanding)| outstanding).sum()
    }

    fn wait_until(&mut self, reached: impl Fn(&Self) -> bool) -> Result<(), SendError> {
        self.poll()?;
        while !reached(self) {
            self.wait()?;
            self.poll()?;
        }
        Ok(())
    }
}

impl Load for ReadyMade {
    fn send_batch(&mut self) -> Result<(), SendError> {
        self.wait_until(|load| load.idle().is_some())?;
        let Some(turn) = self.idle() else { return Ok(()) };
        let packets = self.batches[turn].0.region().plan().packets().len() as u32;
        let mut posted = 0;
        while posted < packets {
            let room = self.max_in_flight.saturating_sub(self.outstanding());
            let end = packets.min(posted.saturating_add(room));
            let (batch, outstanding) = &mut self.batches[turn];
            let taken = self.backend.post(batch, posted..end)?;
            posted += taken;
            *outstanding += taken;
            if posted < packets {
                self.wait()?;
                self.poll()?;
            }
        }
        self.poll()
    }

    fn drain(&mut self) -> Result<(), SendError> {
        self.wait_until(|load| load.outstanding() == 0)
    }

    fn counters(&self) -> Counters {
        self.backend.counters()
    }
}

const LONGEST_WAIT: Duration = Duration::from_millis(100);
