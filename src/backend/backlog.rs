//! Wraps a backend and holds packets back while the sockets that they go to, on this machine, are full:
//! UDP to a receiver on the same machine then loses nothing, as TCP and pipes do not.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket::{Diagnosis, charge, usable};
use super::wait::Wait;
use super::{Backend, Caps, Counters, Done, OpenError, SendError};
use crate::pacer::Rate;
use crate::region::{Batch, InFlight, Region};

/// A backend that asks the kernel how full the receivers' sockets are, and waits for room in them.
pub struct Backlog {
    inner: Box<dyn Backend>,
    diagnosis: Diagnosis,
    destinations: Vec<SocketAddr>,
    /// Bytes for which there was room when last asked, less what was posted since.
    credit: u64,
    /// Whether the last post went as far as that, and the kernel is to be asked again.
    spent: bool,
    /// Since when there has been none.
    full: Option<Instant>,
}

impl Backlog {
    /// Wraps a backend that sends to `destinations`.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell, or one of them is no socket of this machine that receives.
    pub fn open(inner: Box<dyn Backend>, destinations: &[SocketAddr]) -> Result<Self, OpenError> {
        let error = |to: &SocketAddr, why: String| OpenError::new("hold back", to, why);
        let mut diagnosis = Diagnosis::open()
            .map_err(|errno| OpenError::new("hold back", "sock_diag(7)", errno))?;
        for to in destinations {
            // What is not an address of this machine cannot be bound to: a socket that happens to
            // have the same port is not where packets go.
            let is_here = !to.ip().is_multicast() && UdpSocket::bind((to.ip(), 0)).is_ok();
            if !is_here {
                return Err(error(to, "that is not an address of this machine".into()));
            }
            match diagnosis.backlog(*to) {
                Ok(Some(_)) => {}
                Ok(None) => return Err(error(to, "no socket receives there".into())),
                Err(errno) => return Err(error(to, errno.to_string())),
            }
        }
        let destinations = destinations.to_vec();
        Ok(Self { inner, diagnosis, destinations, credit: 0, spent: false, full: None })
    }

    /// Bytes for which there is room in each socket.
    fn ask(&mut self) -> u64 {
        let mut room = u64::MAX;
        for to in &self.destinations {
            // A receiver that has gone is not waited for.
            let Ok(Some(backlog)) = self.diagnosis.backlog(*to) else { continue };
            let most = (usable(backlog.capacity as usize) as u32).min(MOST);
            // One packet is always taken by an empty socket.
            let free = most.saturating_sub(backlog.bytes).max(u32::from(backlog.bytes == 0));
            room = room.min(free.into());
        }
        room
    }

    /// How many of these packets there is room for.
    fn fitting(&mut self, batch: &InFlight, packets: Range<u32>) -> u32 {
        let all = &batch.region().plan().packets()[packets.start as usize..packets.end as usize];
        let mut count = 0;
        for packet in all {
            // The first goes if there is any room at all, or it might never.
            let charge = charge(packet.len()) as u64;
            if count > 0 && charge > self.credit {
                break;
            }
            self.credit = self.credit.saturating_sub(charge);
            count += 1;
        }
        count
    }
}

#[expect(unsafe_code, reason = "the contract of the trait")]
// SAFETY: memory is read by the inner backend alone, whose word is passed on unchanged.
unsafe impl Backend for Backlog {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.inner.register(region, batches)
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        self.spent = false;
        if self.credit == 0 {
            self.credit = self.ask();
            if self.credit == 0 {
                let since = *self.full.get_or_insert_with(Instant::now);
                if since.elapsed() < STUCK {
                    return Ok(0);
                }
                tracing::warn!("a receiver has taken nothing for {STUCK:?}: going on without it");
                self.credit = MOST.into();
            }
            self.full = None;
        }
        let fitting = self.fitting(batch, packets.clone());
        let end = packets.start + fitting;
        let posted = self.inner.post(batch, packets.start..end)?;
        // What is left is too little for another packet: the kernel is asked again.
        if end < packets.end {
            self.credit = 0;
            self.spent = posted == fitting;
        }
        Ok(posted)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        self.inner.poll(done)
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        if self.full.is_some() {
            // Nobody tells of room. Whatever the inner backend has to tell is early enough by then.
            wait.at_most(LOOK_AGAIN);
            return Ok(());
        }
        if self.spent {
            wait.not_at_all();
            return Ok(());
        }
        self.inner.prepare_wait(wait)
    }

    fn pace(&mut self, rate: Rate) -> Result<bool, SendError> {
        self.inner.pace(rate)
    }

    fn flush(&mut self, silence: Duration) -> Result<(), SendError> {
        self.inner.flush(silence)
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

/// Bytes on the way, at most: so few that they are still in the cache when they are received.
const MOST: u32 = 2 << 20;
/// A receiver takes a few hundred kilobytes in this time.
const LOOK_AGAIN: Duration = Duration::from_micros(50);
/// So long a receiver is waited for.
const STUCK: Duration = Duration::from_secs(2);
