//! Messages that the kernel reads after it has taken them: `MSG_ZEROCOPY`.
//!
//! It counts the messages of a socket, and reports by these numbers which ones it no longer reads, in
//! any order, and several at once.

use std::collections::VecDeque;
use std::ops::Range;

use super::suspension::Suspension;
use crate::backend::Done;
use crate::region::Slot;

/// Whether packets are sent from where they lie, without a copy of the kernel's: `MSG_ZEROCOPY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Where that is faster: the kernel does it on the route, and messages are long enough.
    #[default]
    Auto,
    /// Always; where the kernel copies anyway, that costs more.
    On,
    /// Never.
    Off,
}

/// What is known of messages sent without copying.
#[derive(Debug)]
pub(super) struct ZeroCopySends {
    mode: ZeroCopy,
    route: Route,
    /// After refusals: of the route to go without a copy, or of the system to pin so much.
    suspension: Suspension,
    /// Calls of which a part is not released.
    calls: VecDeque<Call>,
    /// Messages in these.
    outstanding: u32,
    /// What the kernel will count the next message as, less multiples of 2^32.
    next: u64,
    /// Whether it may have counted a message that it refused, so that `next` is too low.
    is_doubtful: bool,
    /// Messages that may be outstanding.
    room: u32,
    /// Messages that the kernel did not copy.
    pub(super) uncopied: u64,
    /// Messages that it did copy.
    pub(super) copied: u64,
}

/// Whether the kernel copies on the route, as far as is known: only [`ZeroCopy::Auto`] asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Unknown,
    /// One message is on its way to find out.
    Asked,
    Uncopied,
}

/// Messages of one call, and what they carry.
#[derive(Debug)]
struct Call {
    slot: Slot,
    packets: Range<u32>,
    /// As the kernel counts them.
    messages: Range<u64>,
    /// Those not released yet.
    left: u64,
}

impl ZeroCopySends {
    pub(super) fn new(mode: ZeroCopy) -> Self {
        Self {
            mode,
            route: Route::Unknown,
            suspension: Suspension::new(),
            calls: VecDeque::with_capacity(if mode == ZeroCopy::Off { 0 } else { ROOM as usize }),
            outstanding: 0,
            next: 0,
            is_doubtful: false,
            room: ROOM,
            uncopied: 0,
            copied: 0,
        }
    }

    pub(super) fn mode(&self) -> ZeroCopy {
        self.mode
    }

    pub(super) fn turn_off(&mut self) {
        self.mode = ZeroCopy::Off;
    }

    /// A post begins.
    pub(super) fn post_begins(&mut self) {
        self.suspension.post_begins();
    }

    /// How many messages of so many bytes the next call should send without copying; `None` if it
    /// should copy.
    pub(super) fn messages(&self, bytes: u32) -> Option<u32> {
        let left = self.room.saturating_sub(self.outstanding);
        match (self.mode, self.route) {
            (ZeroCopy::Off, _) => None,
            _ if self.suspension.is_suspended() => None,
            (ZeroCopy::On, _) => Some(left),
            (ZeroCopy::Auto, _) if bytes < WORTH_PINNING => None,
            (ZeroCopy::Auto, Route::Unknown) => Some(left.min(1)),
            (ZeroCopy::Auto, Route::Asked) => None,
            (ZeroCopy::Auto, Route::Uncopied) => Some(left),
        }
    }

    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// A message that was to go without copying was refused, or one after those that went.
    pub(super) fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// The kernel has been asked how far it has counted, and has answered if `next` has changed
    /// since. True if so.
    pub(super) fn settle(&mut self, next: u64) -> bool {
        self.is_doubtful = self.next == next;
        !self.is_doubtful
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The system pins no more than what is outstanding.
    pub(super) fn is_full(&mut self) {
        self.room = self.outstanding.max(1);
    }

    /// The system refused to send a message without copying, and took it otherwise.
    pub(super) fn refused(&mut self) {
        self.suspension.refused();
        self.route = Route::Unknown;
    }

    /// The kernel took messages, which carry these packets.
    pub(super) fn sent(&mut self, slot: Slot, packets: Range<u32>, messages: u32) {
        let left = u64::from(messages);
        self.calls.push_back(Call { slot, packets, messages: self.next..self.next + left, left });
        self.next += left;
        self.outstanding += messages;
        if self.route == Route::Unknown {
            self.route = Route::Asked;
        }
    }

    /// The kernel no longer reads messages `first` to `last`. Says which packets are done.
    pub(super) fn release(&mut self, first: u32, last: u32, copied: bool, done: &mut Vec<Done>) {
        let count = u64::from(last.wrapping_sub(first)) + 1;
        let end = self.unwrap(last) + 1;
        let released = end.saturating_sub(count)..end;
        let (mut known, outstanding) = (0, &mut self.outstanding);
        self.calls.retain_mut(|call| {
            let start = call.messages.start.max(released.start);
            let overlap = call.messages.end.min(released.end).saturating_sub(start).min(call.left);
            call.left -= overlap;
            known += overlap;
            *outstanding -= overlap as u32;
            if call.left == 0 {
                let (slot, packets) = (call.slot, call.packets.clone());
                Done { slot, packets, error: None }.join(done);
            }
            call.left > 0
        });
        // What it counts beyond those that it took, it has refused.
        self.next = self.next.max(end);
        if known == 0 {
            return;
        }
        if copied {
            self.copied += known;
        } else {
            self.uncopied += known;
        }
        if self.mode == ZeroCopy::Auto {
            self.learn(copied);
        }
    }

    fn learn(&mut self, copied: bool) {
        match (copied, self.route) {
            // It was just a while ago that this was found out, and notifications still come in.
            (true, Route::Unknown) => {}
            (true, Route::Asked | Route::Uncopied) => {
                tracing::info!("packets are copied: the kernel does so on this route anyway");
                self.refused();
            }
            (false, Route::Asked) => {
                tracing::debug!("packets are sent without copying");
                self.suspension.accepted();
                self.route = Route::Uncopied;
            }
            (false, Route::Unknown | Route::Uncopied) => {}
        }
    }

    /// The number of a message, of which the kernel tells the low 32 bits.
    fn unwrap(&self, low: u32) -> u64 {
        let ahead = low.wrapping_sub(self.next as u32).cast_signed();
        self.next.saturating_add_signed(ahead.into())
    }
}

/// Bytes of a message from which on it is faster to pin them than to copy them. Measured: see
/// `docs/gso.md`.
const WORTH_PINNING: u32 = 24 << 10;
/// Messages that may be outstanding. The kernel has room for 227 notifications of 576 bytes in the
/// 128 KiB of `net.core.optmem_max` that are usual since Linux 6.7; where it has less, it says so.
const ROOM: u32 = 128;
