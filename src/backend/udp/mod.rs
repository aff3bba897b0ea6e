//! UDP through the kernel: one `sendmmsg(2)` a batch, and packets segmented by the kernel or the
//! device (`UDP_SEGMENT` of udp(7)).
//!
//! Runs of equal packets are messages of one `iovec` and one control message, all built when a region
//! is registered; a post hands a part of that array over. See `docs/gso.md` for why.

mod segmentation;
mod socket;
mod sys;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::SockAddr;

pub use self::socket::{UdpConfig, route_mtu};
pub(super) use self::sys::interface_mtu;

use self::segmentation::Segmentation;
use self::socket::{Socket, probe_segments};
use self::sys::{Messages, Singles};
use super::{Backend, Caps, Counters, Done, MAX_UDP_PAYLOAD, OpenError, SendError};
use crate::plan::RunLimits;
use crate::region::{Batch, InFlight, Region, Slot};
use crate::wire::ethernet::EtherType;
use crate::wire::frame::FrameHeader;

/// Sends through a UDP socket.
///
/// The kernel copies packets before `post` returns, so they are done at once. It never drops one that
/// it has not taken: where it has no room, [`Backend::post`] is short.
pub struct Udp {
    socket: Socket,
    limits: RunLimits,
    names: Arc<[SockAddr]>,
    messages: HashMap<Slot, Messages>,
    singles: Singles,
    segmentation: Segmentation,
    blocked: Option<Blocked>,
    /// How long to wait when the device queue is full; 0 if it is not.
    pause: Duration,
    done: Vec<Done>,
    counters: Counters,
}

/// Why a post was short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    /// The socket's send buffer is full.
    Socket,
    /// The queue of the device is. Nobody tells when it no longer is.
    Device,
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
            limits: RunLimits { segments: probe_segments(), bytes: MAX_UDP_PAYLOAD },
            names: socket.names().into(),
            socket,
            messages: HashMap::new(),
            singles: Singles::new(),
            segmentation: Segmentation::new(),
            blocked: None,
            pause: Duration::ZERO,
            done: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// The destinations, one for each flow.
    pub fn destinations(&self) -> &[SocketAddr] {
        self.socket.destinations()
    }
}

// SAFETY: `post` returns when the kernel has copied what it took, so nothing is read after that.
#[expect(unsafe_code, reason = "the trait's promise")]
unsafe impl Backend for Udp {
    fn caps(&self) -> Caps {
        Caps {
            segments: self.limits.segments,
            message_bytes: self.limits.bytes,
            flows: self.socket.destinations().len() as u32,
            overhead: FrameHeader::len_for(EtherType::of(self.socket.destinations()[0].ip()), None),
            ..Caps::new("udp")
        }
    }

    fn register(&mut self, region: &Arc<Region>, _: &mut [Batch]) -> Result<(), OpenError> {
        let error = |source: String| Err(OpenError::new("register a region", "udp", source));
        let flows = self.socket.destinations().len();
        if region.plan().flows() as usize > flows {
            return error(format!(
                "the plan has {} flows, and there are destinations for {flows}",
                region.plan().flows()
            ));
        }
        if region.headroom() != 0 {
            return error("packets must have no headroom".into());
        }
        for batch in 0..region.batches() {
            let slot = Slot { region: region.id(), batch };
            self.messages
                .entry(slot)
                .or_insert_with(|| Messages::new(region, batch, self.limits, &self.names));
        }
        Ok(())
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let slot = batch.slot();
        let plan = batch.region().plan();
        let Self { socket, segmentation, singles, counters, .. } = self;
        let Some(messages) = self.messages.get_mut(&slot) else { return Err(UNKNOWN) };
        if packets.end as usize > plan.packets().len() {
            return Err(UNKNOWN);
        }
        messages.follow(batch, &packets);
        segmentation.post_begins();
        self.blocked = None;
        let mut next = packets.start;
        // The packets of a message that the kernel would not segment.
        let mut refused = next..next;
        let mut explained = 0;
        let mut short = false;
        while next < packets.end {
            let one_by_one = segmentation.is_suspended() || refused.contains(&next);
            let outcome = if segmentation.is_suspended() {
                singles.send(socket.as_fd(), messages, next..packets.end)
            } else if one_by_one {
                singles.send(socket.as_fd(), messages, next..refused.end)
            } else {
                messages.send(socket.as_fd(), next..packets.end)
            };
            let errno = match outcome {
                Ok(sent) => {
                    let count = sent.end - next;
                    counters.doorbells += 1;
                    counters.messages += u64::from(sent.messages);
                    counters.packets += u64::from(count);
                    if next == refused.start && one_by_one && !refused.is_empty() {
                        // It goes without, so that is what was wrong.
                        counters.segmentation_refused += 1;
                        segmentation.refused();
                    } else if sent.messages < count {
                        segmentation.accepted();
                    }
                    finish(&mut self.done, slot, next..sent.end, None);
                    next = sent.end;
                    // What cut the call before short, this one has not met again.
                    if mem::replace(&mut short, sent.short) {
                        socket.came_back(Errno::UnknownErrno);
                    }
                    explained = 0;
                    self.pause = Duration::ZERO;
                    continue;
                }
                Err(errno) => errno,
            };
            short = false;
            let message =
                if one_by_one { next..next + 1 } else { messages.message_at(&(next..packets.end)) };
            let segmented = message.len() > 1;
            match errno {
                Errno::EINTR => {}
                Errno::EAGAIN => {
                    self.blocked = Some(Blocked::Socket);
                    break;
                }
                // A queue that is shorter than a message never has room for it.
                Errno::ENOBUFS | Errno::ENOMEM if !segmented || self.pause < LONGEST_PAUSE => {
                    self.blocked = Some(Blocked::Device);
                    self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                    break;
                }
                _ if explained < MAX_EXPLAINED && socket.came_back(errno) => explained += 1,
                _ if segmented && refuses_segmentation(errno) => refused = message,
                _ => {
                    let planned = &plan.packets()[next as usize];
                    let error = match errno {
                        Errno::EMSGSIZE => SendError::TooLarge {
                            bytes: planned.len(),
                            mtu: socket.mtu(planned.flow),
                        },
                        _ => SendError::Os { call: CALL, errno: errno as i32 },
                    };
                    next = message.end;
                    finish(&mut self.done, slot, message, Some(error));
                }
            }
        }
        Ok(next.saturating_sub(packets.start))
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        done.append(&mut self.done);
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Result<(), SendError> {
        let Some(blocked) = self.blocked else { return Ok(()) };
        self.counters.waits += 1;
        match blocked {
            Blocked::Device => thread::sleep(self.pause.min(limit)),
            Blocked::Socket => {
                let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                match ppoll(&mut sockets, Some(TimeSpec::from_duration(limit)), None) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => {
                        return Err(SendError::Os { call: "ppoll", errno: errno as i32 });
                    }
                }
                // What is left there would have every further call return at once.
                let [socket] = sockets;
                if socket.revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
                    self.socket.came_back(Errno::UnknownErrno);
                }
            }
        }
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters { icmp_errors: self.socket.icmp_errors(), ..self.counters }
    }
}

impl AsFd for Udp {
    /// The socket, for options beyond [`UdpConfig`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp")
            .field("socket", &self.socket)
            .field("limits", &self.limits)
            .field("batches", &self.messages.len())
            .field("segmentation", &self.segmentation)
            .field("blocked", &self.blocked)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// Says that packets are done, together with those before if all had one outcome.
fn finish(done: &mut Vec<Done>, slot: Slot, packets: Range<u32>, error: Option<SendError>) {
    match done.last_mut() {
        Some(last)
            if last.slot == slot && last.packets.end == packets.start && last.error == error =>
        {
            last.packets.end = packets.end;
        }
        _ => done.push(Done { slot, packets, error }),
    }
}

/// Whether the kernel may say this of a message because it is to be segmented: see `udp_send_skb()`
/// in Linux's `net/ipv4/udp.c` and `net/ipv6/udp.c`. Its packets, one by one, show if that is so.
fn refuses_segmentation(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EIO
            | Errno::EINVAL
            | Errno::EMSGSIZE
            | Errno::EOPNOTSUPP
            | Errno::ENOBUFS
            | Errno::ENOMEM
    )
}

const CALL: &str = "sendmmsg";
/// The batch is not of a region that was registered, or has no such packets.
const UNKNOWN: SendError = SendError::Os { call: "post", errno: libc::EINVAL };
/// Each stands for another packet that was sent before, so this is not reached; but a loop has a
/// bound.
const MAX_EXPLAINED: u32 = 64;
/// What two large packets take at 10 Gbit/s.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
/// What a queue of a thousand such packets takes: if that does not help, more does not.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
