//! TCP: packets back to back in a stream of bytes, which is how spead2's TCP receiver takes them. A
//! receiver that is slow slows the sender, and nothing is lost on the way.
//!
//! One `send(2)`, or `sendmsg(2)` where headers and payload lie apart, hands over all packets of a post that
//! go to one destination. See `docs/tcp.md`.

mod config;
mod connection;
mod pieces;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use self::config::NAME;
pub use self::config::TcpConfig;
use self::connection::{Blocked, Connection, Shared};
pub use super::socket::ZeroCopy;
use super::socket::{self, ErrorQueue, MAX_PER_CALL};
use super::wait::Wait;
use super::{Backend, Caps, Counters, Done, OpenError, SendError, anonymous_memory};
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Layout, Memory, Region, Slot};

/// Sends through TCP connections, one for each destination.
///
/// A packet is done when the kernel has taken all of it, or, if it is sent without copying, once the
/// other side has acknowledged it. What the kernel took and was not acknowledged is counted:
/// [`Counters::unacknowledged`].
///
/// A connection that is lost fails the packets that were to go there, and others go on. With
/// [`TcpConfig::reconnect`] it is made anew, and goes on with the first heap that was not begun before.
///
/// Dropping it ends the streams of bytes; the kernel goes on to deliver what it has taken. It takes
/// until the kernel reads no packet any more.
pub struct Tcp {
    connections: Vec<Connection>,
    shared: Shared,
    /// Which connection a post could not go on with, of which batch, and why.
    blocked: Option<(usize, Slot, Blocked)>,
    /// Bytes that were not acknowledged when that was last asked for.
    unacknowledged: u64,
}

impl Tcp {
    /// Connects to all destinations.
    ///
    /// # Errors
    ///
    /// If there is no destination, or they mix IPv4 and IPv6, or one is a multicast group; if the
    /// interface has no address of that family; if the source port is taken; unless it is to be tried again
    /// ([`TcpConfig::reconnect`]), if nobody listens at a destination, or it does not answer within ten
    /// seconds.
    pub fn open(config: &TcpConfig) -> Result<Self, OpenError> {
        let destinations = socket::destinations(&config.destinations, config.interface.as_ref())?;
        if let Some(group) = destinations.iter().find(|it| it.ip().is_multicast()) {
            let source = "TCP has no multicast: name the receivers one by one";
            return Err(OpenError::new("connect to", group, source));
        }
        let connections = destinations
            .iter()
            .map(|&destination| Connection::open(config, destination))
            .collect::<Result<_, _>>()?;
        let shared = Shared {
            config: config.clone(),
            errors: ErrorQueue::new(),
            done: Vec::new(),
            counters: Counters::default(),
        };
        Ok(Self { connections, shared, blocked: None, unacknowledged: 0 })
    }

    /// Packets that one call takes at most.
    pub fn packets_per_call(layout: Layout) -> usize {
        if layout == Layout::Packed { usize::MAX } else { MAX_PER_CALL / 2 }
    }
}

#[expect(unsafe_code, reason = "the trait's promise")]
// SAFETY: of what is copied, nothing is read after `post` returns. Of what is not, nothing is read once
// the kernel has notified so, and packets are done no sooner than all calls that took a part of them;
// those of a connection that is lost fail no sooner than all its calls are notified of. `drop` waits
// for what is outstanding.
unsafe impl Backend for Tcp {
    fn caps(&self) -> Caps {
        Caps {
            // Segments are cut by the kernel, wherever packets end.
            overhead: 0,
            flows: self.connections.len() as u32,
            flow_control: true,
            ..Caps::new(NAME)
        }
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        anonymous_memory(NAME, arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, _: &mut [Batch]) -> Result<(), OpenError> {
        self.caps().check(region)
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let (slot, plan) = (batch.slot(), batch.region().plan().clone());
        if packets.end as usize > plan.packets().len() {
            return Err(UNKNOWN);
        }
        self.blocked = None;
        let mut closed = self.connections.iter().map(Connection::closed);
        if let Some(Some(error)) = closed.next()
            && closed.all(|error| error.is_some())
        {
            return Err(error.clone());
        }
        let mut next = packets.start;
        while next < packets.end && self.blocked.is_none() {
            let flow = plan.packets()[next as usize].flow;
            let rest = &plan.packets()[next as usize..packets.end as usize];
            let end = next + rest.iter().take_while(|packet| packet.flow == flow).count() as u32;
            let Some(connection) = self.connections.get_mut(flow as usize) else {
                return Err(UNKNOWN);
            };
            if !connection.goes_on_with(slot, next) {
                return Err(UNKNOWN);
            }
            let (sent, blocked) = connection.send(batch, next..end, &mut self.shared);
            self.blocked = blocked.map(|why| (flow as usize, slot, why));
            next = sent;
        }
        Ok(next - packets.start)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        for connection in &mut self.connections {
            if connection.zero_copy().outstanding() > 0 {
                connection.released(&mut self.shared);
            }
        }
        done.append(&mut self.shared.done);
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        // A batch that does not go on is not complete, whatever is done of it.
        let is_news = |done: &Done| self.blocked.is_none_or(|(_, slot, _)| slot != done.slot);
        if self.shared.done.iter().any(is_news) {
            wait.not_at_all();
            return Ok(());
        }
        self.shared.counters.waits += u64::from(self.blocked.is_some());
        for (at, connection) in self.connections.iter_mut().enumerate() {
            let why = self.blocked.filter(|blocked| blocked.0 == at).map(|(.., why)| why);
            connection.prepare_wait(why, wait, &self.shared);
        }
        Ok(())
    }

    fn pace(&mut self, _: Rate) -> Result<bool, SendError> {
        Ok(false)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        for connection in &mut self.connections {
            connection.notice_end(&mut self.shared);
        }
        self.unacknowledged = self.connections.iter().map(Connection::unacknowledged).sum();
        Ok(self.unacknowledged)
    }

    fn counters(&self) -> Counters {
        let sum = |of: fn(&Connection) -> u64| self.connections.iter().map(of).sum::<u64>();
        let counted = &self.shared.counters;
        Counters {
            uncopied: sum(|it| it.zero_copy().uncopied),
            copied: sum(|it| it.zero_copy().copied),
            unacknowledged: counted.unacknowledged + self.unacknowledged,
            ..*counted
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        for connection in &mut self.connections {
            connection.close(&mut self.shared);
        }
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp")
            .field("connections", &self.connections)
            .field("blocked", &self.blocked)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// The packets are of no batch that was registered, or do not follow what was sent in part.
const UNKNOWN: SendError = SendError::Os { call: "post", errno: libc::EINVAL };
