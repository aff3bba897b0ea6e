//! One connection: how far it has got within a packet, and what becomes of it.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::config::NAME;
use super::config::TcpConfig;
use super::pieces::Pieces;
use crate::backend::socket::{
    ErrorQueue, MAX_PER_CALL, Notice, ZeroCopy, ZeroCopySends, abort_connection, send_pieces,
    unacknowledged,
};
use crate::backend::wait::Wait;
use crate::backend::{Counters, Done, OpenError, SendError};
use crate::plan::Plan;
use crate::region::{InFlight, Layout, Slot};

/// A connection to one destination, which is one flow.
#[derive(Debug)]
pub(super) struct Connection {
    destination: SocketAddr,
    socket: Socket,
    state: State,
    /// Whether there was no connection yet.
    is_first: bool,
    /// The packet of which the kernel has taken a part, and how many bytes. Nothing else may follow
    /// on this connection before the rest of it.
    begun: Option<(Slot, u32, usize)>,
    /// Where in which batch a new connection takes over, and why. The rest of a heap that was begun
    /// before is of no use to whoever listens then.
    resumed: Option<(Slot, u32, SendError)>,
    zero_copy: ZeroCopySends,
    /// Messages that the kernel read when it was last waited for to be done with some.
    awaited: u32,
}

#[derive(Debug)]
enum State {
    Open,
    /// Lost, at this time, or not there yet: it may be made anew.
    Lost(Instant, SendError, Attempt),
    /// Lost for good.
    Closed(SendError),
}

/// To connect again.
#[derive(Debug)]
enum Attempt {
    /// To be made at this time.
    Due(Instant),
    /// Under way, since this time.
    Connecting(Socket, Instant),
}

/// Why packets have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// The send buffer is full: the receiver, or the network, is slower.
    Full,
    /// As much as can be is being sent without copying, or the rest of what was is not released.
    Pinned,
    /// There is no connection, and there may be again.
    Lost,
}

/// What connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: TcpConfig,
    pub(super) errors: ErrorQueue,
    pub(super) done: Vec<Done>,
    pub(super) counters: Counters,
}

impl Connection {
    pub(super) fn open(config: &TcpConfig, destination: SocketAddr) -> Result<Self, OpenError> {
        let socket = config.socket(destination)?;
        let may_wait = config.reconnect > Duration::ZERO;
        let limit = if may_wait { LONGEST_ATTEMPT } else { LONGEST_CONNECT };
        let state = match socket.connect_timeout(&destination.into(), limit) {
            Ok(()) => State::Open,
            Err(source) if may_wait => {
                let error =
                    SendError::backend(NAME, format!("cannot connect to {destination}: {source}"));
                let limit = config.reconnect;
                tracing::warn!("{error}; it is tried again for {limit:?}");
                State::Lost(Instant::now(), error, Attempt::Due(Instant::now() + RETRY))
            }
            Err(source) => return Err(OpenError::new("connect to", destination, source)),
        };
        Ok(Self {
            destination,
            socket,
            is_first: !matches!(state, State::Open),
            state,
            begun: None,
            resumed: None,
            zero_copy: ZeroCopySends::new(config.zero_copy),
            awaited: 0,
        })
    }

    /// Why nothing is ever sent here again, if so.
    pub(super) fn closed(&self) -> Option<&SendError> {
        match &self.state {
            State::Closed(error) => Some(error),
            State::Open | State::Lost(..) => None,
        }
    }

    pub(super) fn zero_copy(&self) -> &ZeroCopySends {
        &self.zero_copy
    }

    /// Bytes that the kernel took and the other side has not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        match self.state {
            State::Open => unacknowledged(self.socket.as_fd()).unwrap_or(0),
            // Those are counted when it is lost.
            State::Lost(..) | State::Closed(_) => 0,
        }
    }

    /// Whether a post may go on with this packet, given what is sent in part.
    pub(super) fn goes_on_with(&self, slot: Slot, packet: u32) -> bool {
        self.begun.is_none_or(|(begun, at, _)| (begun, at) == (slot, packet))
    }

    /// Sends packets of this flow that follow each other, in the order of the plan: as many as there
    /// is room for. Returns where it stopped, and why if that is before the end.
    pub(super) fn send(
        &mut self,
        batch: &InFlight,
        packets: Range<u32>,
        shared: &mut Shared,
    ) -> (u32, Option<Blocked>) {
        let (slot, plan) = (batch.slot(), batch.region().plan());
        if self.resumed.as_ref().is_some_and(|it| it.0 != slot || packets.start < it.1) {
            // What was begun is behind.
            self.resumed = None;
        }
        let mut next = packets.start;
        while next < packets.end {
            match &self.state {
                State::Open => {}
                State::Closed(error) => {
                    let error = Some(error.clone());
                    Done { slot, packets: next..packets.end, error }.join(&mut shared.done);
                    return (packets.end, None);
                }
                State::Lost(since, error, _) => {
                    let (since, error) = (*since, error.clone());
                    // Packets cannot fail while the kernel reads what it took of them.
                    if self.zero_copy.outstanding() > 0 && self.released(shared) > 0 {
                        return (next, Some(Blocked::Pinned));
                    }
                    if since.elapsed() < shared.config.reconnect {
                        self.resumed = Some((slot, next, error));
                        if self.reconnect(shared) {
                            continue;
                        }
                        return (next, Some(Blocked::Lost));
                    }
                    self.state = State::Closed(error);
                    self.begun = None;
                    continue;
                }
            }
            let end = match self.unfinished(plan, next..packets.end) {
                (orphans, Some(error)) if !orphans.is_empty() => {
                    next = orphans.end;
                    Done { slot, packets: orphans, error: Some(error) }.join(&mut shared.done);
                    continue;
                }
                (orphans, _) => orphans.start,
            };
            let before = next;
            let blocked = self.send_once(batch, &mut next, end, end < packets.end, shared);
            debug_assert!(before <= next && next <= end);
            if blocked.is_some() {
                return (next, blocked);
            }
        }
        (next, None)
    }

    /// The first packets of a range that are of heaps begun on an earlier connection, with the reason;
    /// if the first is not, none, at the place of the first that is, or at the end.
    fn unfinished(&self, plan: &Plan, packets: Range<u32>) -> (Range<u32>, Option<SendError>) {
        let Some((_, at, error)) = &self.resumed else { return (packets.end..packets.end, None) };
        let is_orphan = |packet: u32| {
            let heap = plan.packets()[packet as usize].heap;
            plan.packets_of(heap)[0] < *at
        };
        let first = packets.clone().find(|&packet| is_orphan(packet)).unwrap_or(packets.end);
        if first > packets.start {
            return (first..first, None);
        }
        let end = packets.clone().find(|&packet| !is_orphan(packet)).unwrap_or(packets.end);
        (packets.start..end, Some(error.clone()))
    }

    /// One call. Moves `next` past the packets that it took whole.
    fn send_once(
        &mut self,
        batch: &InFlight,
        next: &mut u32,
        end: u32,
        more: bool,
        shared: &mut Shared,
    ) -> Option<Blocked> {
        let (slot, plan, layout) = (batch.slot(), batch.region().plan(), batch.region().layout());
        let begun = self.begun.map_or(0, |(.., bytes)| bytes);
        // Without room for the pieces of all packets, the kernel is told that more follow.
        let packed = layout == Layout::Packed;
        let last = if packed { end } else { end.min(*next + MAX_PER_CALL as u32 / 2) };
        let len = |packet: u32| plan.packets()[packet as usize].len();
        let bytes = (*next..last).map(len).sum::<usize>() - begun;

        let zero_copy = match self.zero_copy.messages(u32::try_from(bytes).unwrap_or(u32::MAX)) {
            _ if shared.config.zero_copy == ZeroCopy::Auto && !packed => false,
            None => false,
            Some(0)
                if self.released(shared) > 0 && self.zero_copy.messages(u32::MAX) == Some(0) =>
            {
                return Some(Blocked::Pinned);
            }
            Some(_) => true,
        };
        let mut flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        if zero_copy {
            flags |= libc::MSG_ZEROCOPY;
        }
        if more || last < end {
            flags |= libc::MSG_MORE;
        }
        let outcome = if packed {
            self.socket.send_with_flags(&batch.adjacent(*next..last)[begun..], flags)
        } else {
            let pieces = Pieces::of(batch, *next..last, begun);
            send_pieces(self.socket.as_fd(), pieces.as_slice(), flags)
        };
        let taken = match outcome {
            Ok(taken) => taken,
            Err(error) => return self.not_sent(&error, zero_copy, shared),
        };

        let (first, mut left) = (*next, begun + taken);
        while *next < last && left >= len(*next) {
            left -= len(*next);
            *next += 1;
        }
        let packets = first..*next;
        self.begun = (left > 0).then_some((slot, *next, left));
        shared.counters.doorbells += 1;
        shared.counters.messages += 1;
        shared.counters.packets += packets.len() as u64;
        let joined = begun > 0 && self.zero_copy.went_on(slot, packets.clone(), zero_copy.into());
        if !joined && zero_copy {
            self.zero_copy.sent(slot, packets, 1);
        } else if !joined && !packets.is_empty() {
            Done { slot, packets, error: None }.join(&mut shared.done);
        }
        (taken < bytes).then_some(Blocked::Full)
    }

    /// What to do about an error of a call, which took nothing.
    fn not_sent(
        &mut self,
        error: &io::Error,
        zero_copy: bool,
        shared: &mut Shared,
    ) -> Option<Blocked> {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::EINTR => None,
            Errno::EAGAIN => Some(Blocked::Full),
            // The kernel pins no more, or has no room to tell of it: net.core.optmem_max.
            Errno::ENOBUFS if zero_copy && self.zero_copy.outstanding() > 0 => {
                self.zero_copy.is_full();
                Some(Blocked::Pinned)
            }
            Errno::ENOBUFS | Errno::ENOMEM | Errno::EFAULT if zero_copy => {
                self.zero_copy.refused();
                None
            }
            errno => {
                self.lose(errno, shared);
                None
            }
        }
    }

    fn lose(&mut self, errno: Errno, shared: &mut Shared) {
        let State::Open = self.state else { return };
        let bytes = self.unacknowledged();
        shared.counters.unacknowledged += bytes;
        let reason = io::Error::from(errno);
        let lost = format!("the connection to {} is lost: {reason}", self.destination);
        let error = SendError::backend(NAME, lost);
        tracing::warn!("{error}; {bytes} bytes before that were not acknowledged");
        let now = Instant::now();
        self.state = State::Lost(now, error, Attempt::Due(now));
    }

    /// Takes note of what the kernel no longer reads, and returns how many messages it still does.
    pub(super) fn released(&mut self, shared: &mut Shared) -> u32 {
        loop {
            let taken = shared.errors.take(self.socket.as_fd(), ErrorQueue::ENTRIES);
            for entry in 0..taken {
                if let Notice::Released { first, last, copied } = shared.errors.notice(entry) {
                    self.zero_copy.release(first, last, copied, &mut shared.done);
                }
            }
            if taken < ErrorQueue::ENTRIES {
                return self.zero_copy.outstanding();
            }
        }
    }

    /// Says what ends a wait for what stopped packets here, if any did, or for what the kernel still reads.
    pub(super) fn prepare_wait(
        &mut self,
        blocked: Option<Blocked>,
        wait: &mut Wait,
        shared: &Shared,
    ) {
        let outstanding = self.zero_copy.outstanding();
        match (&self.state, blocked) {
            (State::Lost(since, _, attempt), Some(Blocked::Lost)) => {
                wait.at_most(shared.config.reconnect.saturating_sub(since.elapsed()));
                match attempt {
                    Attempt::Due(at) => wait.at_most(at.saturating_duration_since(Instant::now())),
                    Attempt::Connecting(socket, begun) => {
                        wait.descriptor(socket, libc::POLLOUT);
                        wait.at_most(LONGEST_ATTEMPT.saturating_sub(begun.elapsed()));
                    }
                }
            }
            (_, Some(Blocked::Pinned)) if outstanding == 0 => wait.not_at_all(),
            (_, Some(Blocked::Full)) => wait.descriptor(&self.socket, libc::POLLOUT),
            // One that is gone is always ready. Whether it is costs a system call: it is asked only where
            // a wait has brought nothing.
            _ if outstanding > 0 && self.awaited == outstanding && self.is_gone() => {
                wait.at_most(LOOK_AGAIN);
            }
            // Notifications are reported as errors, and those always.
            _ if outstanding > 0 => wait.descriptor(&self.socket, 0),
            _ => {}
        }
        self.awaited = outstanding;
    }

    fn is_gone(&self) -> bool {
        let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut sockets, PollTimeout::ZERO);
        let events = sockets[0].revents().unwrap_or(PollFlags::empty());
        polled.is_ok() && events.contains(PollFlags::POLLHUP)
    }

    /// Goes on to connect again. True once it is connected.
    fn reconnect(&mut self, shared: &mut Shared) -> bool {
        let State::Lost(_, _, attempt) = &mut self.state else { return false };
        if let Attempt::Due(at) = attempt {
            if Instant::now() < *at {
                return false;
            }
            let socket = shared.config.socket(self.destination).and_then(|socket| {
                let set = socket.set_nonblocking(true);
                set.map_err(|source| OpenError::new("connect to", self.destination, source))?;
                Ok(socket)
            });
            *attempt = match socket {
                Ok(socket) => Attempt::Connecting(socket, Instant::now()),
                Err(error) => {
                    tracing::debug!("not yet: {error}");
                    Attempt::Due(Instant::now() + RETRY)
                }
            };
        }
        let Attempt::Connecting(socket, begun) = attempt else { return false };
        // Called again, it says what has become of it: connect(2).
        if let Err(error) = socket.connect(&self.destination.into()) {
            let under_way = [libc::EINPROGRESS, libc::EALREADY, libc::EINTR].map(Some);
            let is_under_way = under_way.contains(&error.raw_os_error());
            if !is_under_way || begun.elapsed() >= LONGEST_ATTEMPT {
                tracing::debug!("not yet: {error}");
                *attempt = Attempt::Due(Instant::now() + RETRY);
            }
            return false;
        }
        let is_first = mem::take(&mut self.is_first);
        let again = if is_first { "" } else { " again" };
        tracing::info!("connected to {}{again}", self.destination);
        let State::Lost(_, _, Attempt::Connecting(socket, _)) =
            mem::replace(&mut self.state, State::Open)
        else {
            return false;
        };
        self.socket = socket;
        self.begun = None;
        let before = &self.zero_copy;
        let mut zero_copy = ZeroCopySends::new(before.mode());
        (zero_copy.uncopied, zero_copy.copied) = (before.uncopied, before.copied);
        self.zero_copy = zero_copy;
        shared.counters.reconnects += u64::from(!is_first);
        true
    }

    /// Takes note of a connection that was lost while nothing was sent.
    pub(super) fn notice_end(&mut self, shared: &mut Shared) {
        if let Ok(Some(error)) = self.socket.take_error() {
            self.lose(Errno::from_raw(error.raw_os_error().unwrap_or(0)), shared);
        }
    }

    /// Says that this is all, and waits until the kernel reads no memory of ours: it sends the rest
    /// by itself. Where that takes for ever, it is told to forget it.
    pub(super) fn close(&mut self, shared: &mut Shared) {
        let _ = self.socket.shutdown(Shutdown::Write);
        // A receiver says nothing. What it did say all the same would make the kernel send a reset,
        // which overtakes what is on its way: RFC 1122, 4.2.2.13.
        let mut unread = [MaybeUninit::uninit(); 4096];
        while matches!(self.socket.recv_with_flags(&mut unread, libc::MSG_DONTWAIT), Ok(1..)) {}
        let mut since = Instant::now();
        let (mut left, mut wait) = (self.zero_copy.outstanding(), Wait::new());
        while left > 0 {
            // A connection that is gone is always ready.
            if self.is_gone() {
                thread::sleep(LOOK_AGAIN);
            } else {
                wait.descriptor(&self.socket, 0);
                let _ = wait.block(None, Some(LOOK_AGAIN));
            }
            let now = self.released(shared);
            if now != left {
                (left, since) = (now, Instant::now());
            } else if since.elapsed() >= LONGEST_SILENCE {
                tracing::warn!("{} acknowledges nothing: giving up", self.destination);
                let _ = abort_connection(self.socket.as_fd());
                since = Instant::now();
            }
        }
    }
}

/// Three times as long as the first retransmissions of a SYN take: RFC 6298, 2.1.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);
/// After which a SYN is sent again, RFC 6298, 2.1: a new attempt is as good.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(1);
/// Between attempts to connect again.
const RETRY: Duration = Duration::from_millis(100);
/// Nobody tells when memory of a connection that is gone is no longer read.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Until a peer that acknowledges nothing keeps memory no longer.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);
