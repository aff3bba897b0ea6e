//! Holds packets back while the sockets that they go to, on this machine, are full: UDP to a receiver on the
//! same machine then loses nothing, as TCP and pipes do not.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Admission;
use crate::backend::OpenError;
use crate::backend::socket::{Diagnosis, charge, usable};
use crate::backend::wait::Wait;
use crate::region::InFlight;

/// Asks the kernel how full receivers' sockets are, and admits what they have room for.
pub struct SocketRoom {
    diagnosis: Diagnosis,
    destinations: Vec<SocketAddr>,
    /// Bytes for which there was room when last asked, less what was admitted since.
    credit: u64,
    /// Since when there has been none.
    full: Option<Instant>,
}

impl SocketRoom {
    /// Holds packets back for all of `destinations` while one of them has no room.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell, or one of them is no socket of this machine that receives.
    pub fn open(destinations: &[SocketAddr]) -> Result<Self, OpenError> {
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
        Ok(Self { diagnosis, destinations: destinations.to_vec(), credit: 0, full: None })
    }

    /// Bytes for which there is room in each socket.
    fn ask(&mut self) -> u64 {
        let mut room = u64::MAX;
        for to in &self.destinations {
            // A receiver that has gone is not waited for.
            let Ok(Some(backlog)) = self.diagnosis.backlog(*to) else { continue };
            let most = usable(backlog.capacity as usize).min(MOST);
            // One packet is always taken by an empty socket.
            let is_empty = backlog.bytes == 0;
            let free = most.saturating_sub(backlog.bytes as usize).max(is_empty.into());
            room = room.min(free as u64);
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
                // What is left is too little for another packet: the kernel is asked again.
                self.credit = 0;
                break;
            }
            self.credit = self.credit.saturating_sub(charge);
            count += 1;
        }
        count
    }
}

impl Admission for SocketRoom {
    fn admit(&mut self, batch: &InFlight, packets: Range<u32>) -> u32 {
        if self.credit == 0 {
            self.credit = self.ask();
        }
        if self.credit == 0 {
            let since = *self.full.get_or_insert_with(Instant::now);
            if since.elapsed() < STUCK {
                return 0;
            }
            tracing::warn!("a receiver has taken nothing for {STUCK:?}: going on without it");
            self.credit = MOST as u64;
        }
        self.full = None;
        self.fitting(batch, packets)
    }

    fn prepare_wait(&mut self, wait: &mut Wait) {
        // Nobody tells of room.
        wait.at_most(LOOK_AGAIN);
    }
}

/// Bytes on the way, at most: so few that they are still in the cache when they are received.
const MOST: usize = 2 << 20;
/// A receiver takes a few hundred kilobytes in this time.
const LOOK_AGAIN: Duration = Duration::from_micros(50);
/// So long a receiver is waited for.
const STUCK: Duration = Duration::from_secs(2);
