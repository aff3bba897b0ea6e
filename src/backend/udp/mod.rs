//! UDP through the kernel: one `sendmmsg(2)` a batch, and packets segmented by the kernel or the
//! device (`UDP_SEGMENT` of udp(7)).
//!
//! Runs of equal packets are messages of one `iovec` and one control message, all built when a region
//! is registered; a post hands a part of that array over. See `docs/gso.md` for why.

mod config;
mod messages;
mod post;
mod segmentation;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::SockAddr;

pub use self::config::*;
use self::messages::{Messages, Singles};
use self::post::{Blocked, LONGEST_PAUSE, Outlet, Post};
pub use self::segmentation::{max_segments, max_segments_through};
use self::socket::Socket;
pub use self::socket::route_mtu;
pub use super::socket::ZeroCopy;
use super::socket::{MAX_PER_CALL, Suspension};
use super::wait::Wait;
use super::{Backend, Caps, Counters, Done, OpenError, SendError, anonymous_memory};
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Memory, Placement, Region, Slot};
use crate::wire::{EtherType, FrameHeader};

/// Sends through a UDP socket.
///
/// Packets that the kernel copies are done when `post` returns, others once it says that it no longer
/// reads them: see [`ZeroCopy`]. It never drops one that it has not taken: where it has no room,
/// [`Backend::post`] is short.
///
/// Dropping it takes until the kernel reads no packet any more.
pub struct Udp {
    outlet: Outlet,
    placement: Placement,
    names: Arc<[SockAddr]>,
    /// By region, of which there are few, and by batch.
    messages: Vec<(u64, Vec<Messages>)>,
    /// Which batch the last post was of, if it was short, and why.
    blocked: Option<(Slot, Blocked)>,
    notifications: Notifications,
}

/// What has been done since the last post to learn of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notifications {
    /// Nothing.
    Posted,
    /// They were asked for once, which does not pay for a system call: whoever has batches left posts
    /// the next, and hears of several at once when there are none.
    Glanced,
    /// The error queue was read.
    Read,
}

impl Udp {
    /// Opens a socket. With one destination, it is connected: that saves a look-up of the route for
    /// each message.
    ///
    /// # Errors
    ///
    /// If there is no destination, or they mix IPv4 and IPv6; if the interface has no address of that
    /// family; if the source port is taken; if there is no route to a destination.
    pub fn open(config: &UdpConfig) -> Result<Self, OpenError> {
        let socket = Socket::open(config)?;
        Ok(Self {
            placement: config.placement(),
            names: socket.names().into(),
            outlet: Outlet {
                socket,
                singles: Singles::new(),
                segmentation: Suspension::new(),
                pause: Duration::ZERO,
                waited: false,
                done: Vec::new(),
                counters: Counters::default(),
            },
            messages: Vec::new(),
            blocked: None,
            notifications: Notifications::Read,
        })
    }
}

#[expect(unsafe_code, reason = "the trait's promise")]
// SAFETY: of what is copied, nothing is read after `post` returns. Of what is not, nothing is read once
// the kernel has notified so, and packets are done no sooner than all messages of their call. Which
// message a notification is about is known, since `ZeroCopySends` counts as the kernel does: what went
// is counted at once, and before anything goes after a refusal, the kernel is asked. `drop` waits for
// what is outstanding.
unsafe impl Backend for Udp {
    fn caps(&self) -> Caps {
        Caps {
            placement: self.placement,
            flows: self.outlet.socket.destinations().len() as u32,
            overhead: FrameHeader::len_for(
                EtherType::of(self.outlet.socket.destinations()[0].ip()),
                None,
            ),
            ..Caps::new(NAME)
        }
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        anonymous_memory(NAME, arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, _: &mut [Batch]) -> Result<(), OpenError> {
        self.caps().check(region)?;
        let zero_copy = self.outlet.socket.zero_copy.mode();
        if self.messages.iter().all(|(id, _)| *id != region.id()) {
            let messages = |batch| Messages::new(region, batch, &self.names, zero_copy);
            self.messages.push((region.id(), (0..region.batches()).map(messages).collect()));
        }
        Ok(())
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let slot = batch.slot();
        let Some(messages) = find(&mut self.messages, slot) else { return Err(UNKNOWN) };
        if packets.end as usize > batch.region().plan().packets().len() {
            return Err(UNKNOWN);
        }
        messages.follow(batch, &packets);
        self.outlet.segmentation.post_begins();
        self.outlet.socket.zero_copy.post_begins();
        self.notifications = Notifications::Posted;
        let start = packets.start;
        let mut post = Post::new(slot, messages, batch.region().plan().packets(), packets);
        self.blocked = self.outlet.send_all(&mut post).map(|why| (slot, why));
        Ok(post.next.saturating_sub(start))
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        if self.notifications == Notifications::Posted {
            self.notifications = Notifications::Glanced;
        } else if self.outlet.socket.zero_copy.outstanding() > 0 {
            self.notifications = Notifications::Read;
            self.outlet.waited = false;
            self.outlet.socket.read_errors(Errno::UnknownErrno, &mut self.outlet.done);
        }
        done.append(&mut self.outlet.done);
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        // A batch that does not go on is not complete, whatever is done of it.
        let is_news = |done: &Done| self.blocked.is_none_or(|(slot, _)| slot != done.slot);
        if self.outlet.done.iter().any(is_news) {
            wait.not_at_all();
            return Ok(());
        }
        let outstanding = self.outlet.socket.zero_copy.outstanding();
        let look = outstanding > 0 && self.notifications != Notifications::Read;
        // What came back by ICMP would have every wait end at once, until it is read.
        if look || self.outlet.waited {
            self.notifications = Notifications::Read;
            self.outlet.waited = false;
            self.outlet.socket.read_errors(Errno::UnknownErrno, &mut self.outlet.done);
            if self.outlet.socket.zero_copy.outstanding() < outstanding {
                wait.not_at_all();
                return Ok(());
            }
        }
        self.outlet.counters.waits += u64::from(self.blocked.is_some());
        match self.blocked.map(|(_, why)| why) {
            Some(Blocked::Socket) => {
                wait.descriptor(&self.outlet.socket, libc::POLLOUT);
                self.outlet.waited = true;
                return Ok(());
            }
            Some(Blocked::Device) => wait.at_most(self.outlet.pause),
            Some(Blocked::Pinned) if outstanding == 0 => wait.not_at_all(),
            Some(Blocked::Pinned) | None => {}
        }
        if outstanding > 0 {
            // Notifications are reported as errors, and those always.
            wait.descriptor(&self.outlet.socket, 0);
            self.outlet.waited = true;
        }
        Ok(())
    }

    fn pace(&mut self, _: Rate) -> Result<bool, SendError> {
        Ok(false)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        // The last that came back is about packets that no other call follows.
        self.outlet.socket.read_errors(Errno::UnknownErrno, &mut self.outlet.done);
        Ok(0)
    }

    fn counters(&self) -> Counters {
        Counters {
            icmp_errors: self.outlet.socket.icmp_errors(),
            uncopied: self.outlet.socket.zero_copy.uncopied,
            copied: self.outlet.socket.zero_copy.copied,
            ..self.outlet.counters
        }
    }
}

impl Drop for Udp {
    /// Waits for the kernel. It lets go of every message: devices that transmit nothing are reset by
    /// its watchdog, packets for neighbours that do not answer are dropped, and so are those of a
    /// link that is taken down. Giving the memory back before would send what is written there next.
    fn drop(&mut self) {
        let (mut begin, mut done, mut wait) = (Instant::now(), Vec::new(), Wait::new());
        while self.outlet.socket.zero_copy.outstanding() > 0 {
            wait.descriptor(&self.outlet.socket, 0);
            if wait.block(None, Some(LONGEST_SILENCE)).is_err() {
                thread::sleep(LONGEST_PAUSE);
            }
            self.outlet.socket.read_errors(Errno::UnknownErrno, &mut done);
            if begin.elapsed() >= LONGEST_SILENCE {
                let messages = self.outlet.socket.zero_copy.outstanding();
                tracing::warn!("{messages} messages are still queued: is the link up?");
                begin = Instant::now();
            }
        }
    }
}

impl AsFd for Udp {
    /// The socket, for options beyond [`UdpConfig`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outlet.socket.as_fd()
    }
}

impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp")
            .field("socket", &self.outlet.socket)
            .field("placement", &self.placement)
            .field("regions", &self.messages.len())
            .field("segmentation", &self.outlet.segmentation)
            .field("blocked", &self.blocked)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// The messages of a batch.
fn find(messages: &mut [(u64, Vec<Messages>)], slot: Slot) -> Option<&mut Messages> {
    let (_, batches) = messages.iter_mut().find(|(region, _)| *region == slot.region)?;
    batches.get_mut(slot.batch as usize)
}

/// As in `--backend`.
pub(crate) const NAME: &str = "udp";
/// Messages that one call hands over, at most.
pub const MESSAGES_PER_CALL: usize = MAX_PER_CALL;
/// Until it is said what is waited for.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
/// The batch is not of a region that was registered, or has no such packets.
const UNKNOWN: SendError = SendError::Os { call: "post", errno: libc::EINVAL };
