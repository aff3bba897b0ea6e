//! One post: for each call to the kernel, how it is made, and what its answer means.

use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;

use super::messages::{Messages, Outcome, Sent, Singles};
use super::socket::Socket;
use crate::backend::socket::{Suspension, ZeroCopy};
use crate::backend::{Counters, Done, SendError};
use crate::plan::PlannedPacket;
use crate::region::Slot;

/// How far a post has got.
pub(super) struct Post<'a> {
    slot: Slot,
    messages: &'a mut Messages,
    planned: &'a [PlannedPacket],
    /// The packet to go next.
    pub(super) next: u32,
    end: u32,
    /// The packets of a message that the kernel would not segment.
    refused: Range<u32>,
    /// The end of what is copied because it could not go otherwise.
    copied: u32,
    /// Whether that is to be tried, since a message was refused that was not to be copied.
    pinning_failed: bool,
    /// Errors in a row that were found to be about something else.
    explained: u32,
    /// Whether the last call took only some of its messages.
    short: bool,
}

/// How the next packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// As messages of one packet each.
    Singly { end: u32 },
    /// As messages that the kernel copies.
    Copied { end: u32 },
    /// As at most this many messages, whose memory it reads until it says otherwise.
    Pinned { messages: u32 },
}

/// What to do next.
enum Choice {
    Send(Method),
    /// Something was learnt: choose again.
    Again,
    Wait(Blocked),
}

impl<'a> Post<'a> {
    pub(super) fn new(
        slot: Slot,
        messages: &'a mut Messages,
        planned: &'a [PlannedPacket],
        packets: Range<u32>,
    ) -> Self {
        let Range { start, end } = packets;
        Self {
            slot,
            messages,
            planned,
            next: start,
            end,
            refused: start..start,
            copied: start,
            pinning_failed: false,
            explained: 0,
            short: false,
        }
    }

    /// What has not gone.
    fn rest(&self) -> Range<u32> {
        self.next..self.end
    }
}

/// What a post goes through, whatever it is of.
pub(super) struct Outlet {
    pub(super) socket: Socket,
    pub(super) singles: Singles,
    pub(super) segmentation: Suspension,
    /// How long to wait when the device queue is full; 0 if it is not.
    pub(super) pause: Duration,
    /// Whether the socket was waited for, and nothing was sent since.
    pub(super) waited: bool,
    pub(super) done: Vec<Done>,
    pub(super) counters: Counters,
}

/// Why a post was short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// The socket's send buffer is full.
    Socket,
    /// The queue of the device is. Nobody tells when it no longer is.
    Device,
    /// As much as can be is being sent without copying.
    Pinned,
}

impl Outlet {
    /// Sends what the kernel takes, and says why that is not all, if so.
    pub(super) fn send_all(&mut self, post: &mut Post<'_>) -> Option<Blocked> {
        while post.next < post.end {
            let way = match self.choose(post) {
                Choice::Send(way) => way,
                Choice::Again => continue,
                Choice::Wait(why) => return Some(why),
            };
            match self.send(post, way) {
                Ok(sent) => self.took(post, way, &sent),
                Err(errno) => {
                    post.short = false;
                    let blocked = match way {
                        Method::Pinned { .. } if !matches!(errno, Errno::EAGAIN | Errno::EINTR) => {
                            self.judge_pinned(post, errno)
                        }
                        _ => self.judge(post, way, errno),
                    };
                    if blocked.is_some() {
                        return blocked;
                    }
                }
            }
        }
        None
    }

    fn choose(&mut self, post: &mut Post<'_>) -> Choice {
        if self.segmentation.is_suspended() {
            return Choice::Send(Method::Singly { end: post.end });
        }
        if post.refused.contains(&post.next) {
            return Choice::Send(Method::Singly { end: post.refused.end });
        }
        if post.next < post.copied {
            return Choice::Send(Method::Copied { end: post.copied });
        }
        let Self { socket, done, .. } = self;
        let bytes = post.messages.zero_copy_bytes(&post.rest());
        match bytes.and_then(|bytes| socket.zero_copy.messages(bytes)) {
            None => Choice::Send(Method::Copied { end: post.end }),
            Some(0) => {
                socket.read_errors(Errno::UnknownErrno, done);
                match socket.zero_copy.messages(u32::MAX) {
                    Some(0) => Choice::Wait(Blocked::Pinned),
                    _ => Choice::Again,
                }
            }
            Some(room) => match socket.settle(done) {
                Ok(()) if socket.zero_copy.mode() == ZeroCopy::Off => Choice::Again,
                Ok(()) => Choice::Send(Method::Pinned { messages: room }),
                Err(Errno::EINTR) => Choice::Again,
                Err(Errno::EAGAIN) => Choice::Wait(Blocked::Socket),
                // Nothing was to be sent, so that is no device queue.
                Err(Errno::ENOBUFS) if socket.zero_copy.outstanding() > 0 => {
                    socket.zero_copy.is_full();
                    Choice::Again
                }
                // The same will be said of the message.
                Err(_) => {
                    post.copied = post.messages.message_at(&post.rest()).end;
                    Choice::Again
                }
            },
        }
    }

    /// One call.
    fn send(&mut self, post: &mut Post<'_>, way: Method) -> Outcome {
        let socket = self.socket.as_fd();
        let (end, most) = match way {
            Method::Singly { end } => {
                return self.singles.send(socket, post.messages, post.next..end);
            }
            Method::Copied { end } => (end, None),
            Method::Pinned { messages } => (post.end, Some(messages)),
        };
        post.messages.send(socket, post.next..end, most)
    }

    /// Takes note of what the kernel took.
    fn took(&mut self, post: &mut Post<'_>, way: Method, sent: &Sent) {
        let Self { socket, segmentation, counters, done, .. } = self;
        let packets = post.next..sent.end;
        let count = sent.end - post.next;
        counters.doorbells += 1;
        counters.messages += u64::from(sent.messages);
        counters.packets += u64::from(count);
        let is_single = matches!(way, Method::Singly { .. });
        if is_single && post.next == post.refused.start && !post.refused.is_empty() {
            // It goes without, so that is what was wrong.
            counters.segmentation_refused += 1;
            segmentation.refused();
        } else if sent.messages < count {
            segmentation.accepted();
        }
        if let Method::Pinned { .. } = way {
            socket.zero_copy.sent(post.slot, packets, sent.messages);
            if sent.short {
                socket.zero_copy.doubt();
            }
        } else {
            Done { slot: post.slot, packets, error: None }.join(done);
            if post.next < post.copied && post.pinning_failed {
                socket.zero_copy.refused();
            }
        }
        post.pinning_failed = false;
        post.next = sent.end;
        // What cut the call before short, this one has not met again.
        if mem::replace(&mut post.short, sent.short) {
            socket.read_errors(Errno::UnknownErrno, done);
        }
        post.explained = 0;
        self.pause = Duration::ZERO;
        self.waited = false;
    }

    /// What becomes of a message that was not to be copied, and was refused. Says why to wait, if so.
    fn judge_pinned(&mut self, post: &mut Post<'_>, errno: Errno) -> Option<Blocked> {
        self.socket.zero_copy.doubt();
        let before = self.socket.zero_copy.outstanding();
        if self.explains(post, errno) {
            return None;
        }
        // Where the system pins only so much, or a queue is full, that passes: else the message goes as
        // others do, or meets the same error once more.
        if errno == Errno::ENOBUFS && before > 0 {
            let released = self.socket.zero_copy.outstanding() < before;
            return (!released).then_some(Blocked::Pinned);
        }
        post.copied = post.messages.message_at(&post.rest()).end;
        post.pinning_failed = true;
        None
    }

    /// What becomes of the first message of a call that took none. Says why to wait, if so.
    fn judge(&mut self, post: &mut Post<'_>, way: Method, errno: Errno) -> Option<Blocked> {
        let message = match way {
            Method::Singly { .. } => post.next..post.next + 1,
            _ => post.messages.message_at(&post.rest()),
        };
        let is_segmented = message.len() > 1;
        match errno {
            Errno::EINTR => {}
            Errno::EAGAIN => return Some(Blocked::Socket),
            // A queue that is shorter than a message never has room for it.
            Errno::ENOBUFS | Errno::ENOMEM if !is_segmented || self.pause < LONGEST_PAUSE => {
                self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                return Some(Blocked::Device);
            }
            _ if self.explains(post, errno) => {}
            _ if is_segmented && refuses_segmentation(errno) => post.refused = message,
            _ => {
                let planned = &post.planned[post.next as usize];
                let error = match errno {
                    Errno::EMSGSIZE => SendError::TooLarge {
                        bytes: planned.len(),
                        mtu: self.socket.mtu(planned.flow),
                    },
                    _ => SendError::Os { call: CALL, errno: errno as i32 },
                };
                post.next = message.end;
                let error = Some(error);
                Done { slot: post.slot, packets: message, error }.join(&mut self.done);
            }
        }
        None
    }

    /// Whether an error is about something that was sent before.
    fn explains(&mut self, post: &mut Post<'_>, errno: Errno) -> bool {
        let is_explained =
            post.explained < MAX_EXPLAINED && self.socket.read_errors(errno, &mut self.done);
        post.explained += u32::from(is_explained);
        is_explained
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

pub(super) const CALL: &str = "sendmmsg";
/// Each stands for another packet that was sent before, so this is not reached; but a loop has a
/// bound.
const MAX_EXPLAINED: u32 = 64;
/// What two large packets take at 10 Gbit/s.
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
/// What a queue of a thousand such packets takes: if that does not help, more does not.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(5);
