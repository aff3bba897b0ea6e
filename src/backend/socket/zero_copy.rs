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
pub(in crate::backend) struct ZeroCopySends {
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
    pub(in crate::backend) uncopied: u64,
    /// Messages that it did copy.
    pub(in crate::backend) copied: u64,
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
    pub(in crate::backend) fn new(mode: ZeroCopy) -> Self {
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

    pub(in crate::backend) fn mode(&self) -> ZeroCopy {
        self.mode
    }

    pub(in crate::backend) fn turn_off(&mut self) {
        self.mode = ZeroCopy::Off;
    }

    /// A post begins.
    pub(in crate::backend) fn post_begins(&mut self) {
        self.suspension.post_begins();
    }

    /// How many messages of `bytes` the next call should send without copying; `None` if it
    /// should copy.
    pub(in crate::backend) fn messages(&self, bytes: u32) -> Option<u32> {
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

    pub(in crate::backend) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub(in crate::backend) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// A message that was to go without copying was refused, or one after those that went.
    pub(in crate::backend) fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// The kernel has been asked how far it has counted, and has answered if `next` has changed
    /// since. True if so.
    pub(in crate::backend) fn settle(&mut self, next: u64) -> bool {
        self.is_doubtful = self.next == next;
        !self.is_doubtful
    }

    pub(in crate::backend) fn next(&self) -> u64 {
        self.next
    }

    /// The system pins no more than what is outstanding.
    pub(in crate::backend) fn is_full(&mut self) {
        self.room = self.outstanding.max(1);
    }

    /// The system refused to send a message without copying, and took it otherwise.
    pub(in crate::backend) fn refused(&mut self) {
        self.suspension.refused();
        self.route = Route::Unknown;
    }

    /// The kernel took messages, which carry these packets.
    pub(in crate::backend) fn sent(&mut self, slot: Slot, packets: Range<u32>, messages: u32) {
        let left = u64::from(messages);
        self.calls.push_back(Call { slot, packets, messages: self.next..self.next + left, left });
        self.next += left;
        self.outstanding += messages;
        if self.route == Route::Unknown {
            self.route = Route::Asked;
        }
    }

    /// The kernel took messages that go on with packets at which the last call ended, perhaps within the
    /// first: what that call carries is done no sooner than these packets, and the other way round.
    /// `messages` is 0 if the kernel copied them. False if there is no such call, or all of it is
    /// released: then that is past.
    pub(in crate::backend) fn went_on(
        &mut self,
        slot: Slot,
        packets: Range<u32>,
        messages: u32,
    ) -> bool {
        let ends_here = |call: &&mut Call| {
            call.slot == slot && call.packets.end == packets.start && call.messages.end == self.next
        };
        let Some(call) = self.calls.back_mut().filter(ends_here) else { return false };
        call.packets.end = packets.end;
        call.messages.end += u64::from(messages);
        call.left += u64::from(messages);
        self.next += u64::from(messages);
        self.outstanding += messages;
        true
    }

    /// The kernel no longer reads messages `first` to `last`. Says which packets are done.
    pub(in crate::backend) fn release(
        &mut self,
        first: u32,
        last: u32,
        copied: bool,
        done: &mut Vec<Done>,
    ) {
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
            // A call that ended within its first packet has none that is whole.
            if call.left == 0 && !call.packets.is_empty() {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT: Slot = Slot { region: 1, batch: 0 };

    /// Calls of these numbers of messages, a packet each, which the kernel counts from `first` on.
    fn sends(first: u32, calls: &[u32]) -> ZeroCopySends {
        let mut sends = ZeroCopySends::new(ZeroCopy::On);
        sends.next = u64::from(first);
        let mut packet = 0;
        for &messages in calls {
            sends.sent(SLOT, packet..packet + messages, messages);
            packet += messages;
        }
        sends
    }

    fn packets(done: &[Done]) -> Vec<(u32, u32)> {
        done.iter().map(|done| (done.packets.start, done.packets.end)).collect()
    }

    #[test]
    fn a_call_is_done_with_its_last_message() {
        let mut sends = sends(u32::MAX - 1, &[2, 3, 1]);
        let mut done = Vec::new();
        sends.release(1, 2, false, &mut done);
        assert_eq!(packets(&done), []);
        // Merged, over the end of the first call and of the numbers that there are.
        sends.release(u32::MAX, 0, false, &mut done);
        assert_eq!(packets(&done), [(2, 5)]);
        sends.release(u32::MAX - 1, u32::MAX - 1, true, &mut done);
        assert_eq!(packets(&done), [(2, 5), (0, 2)]);
        assert_eq!((sends.outstanding(), sends.uncopied, sends.copied), (1, 4, 1));
    }

    #[test]
    fn refused_messages_are_counted_as_the_kernel_does() {
        let mut sends = sends(0, &[2]);
        let mut done = Vec::new();
        sends.doubt();
        // The message refused was counted as the third, and that which asked as the fourth.
        let next = sends.next();
        sends.release(2, 3, false, &mut done);
        assert!(sends.settle(next) && !sends.is_doubtful());
        assert_eq!((packets(&done), sends.uncopied), (vec![], 0));
        sends.sent(SLOT, 2..4, 2);
        sends.release(0, 4, false, &mut done);
        assert_eq!(packets(&done), [(0, 2)]);
        sends.release(5, 5, false, &mut done);
        assert_eq!(packets(&done), [(0, 4)]);
        sends.doubt();
        assert!(!sends.settle(sends.next()), "the kernel did not answer");
    }

    #[test]
    fn a_call_that_ended_within_a_packet_is_done_with_the_rest_of_it() {
        let mut sends = sends(0, &[1]);
        let mut done = Vec::new();
        assert!(sends.went_on(SLOT, 1..3, 1) && sends.went_on(SLOT, 3..4, 0));
        sends.release(1, 1, false, &mut done);
        assert_eq!(packets(&done), []);
        assert!(!sends.went_on(SLOT, 5..6, 0), "another call took packet 4");
        assert!(!sends.went_on(Slot { region: 1, batch: 1 }, 4..5, 1), "of another batch");
        sends.release(0, 0, false, &mut done);
        assert_eq!(packets(&done), [(0, 4)]);
        assert!(!sends.went_on(SLOT, 4..5, 1), "that is past");
        sends.sent(SLOT, 4..4, 1);
        sends.release(2, 2, false, &mut done);
        assert_eq!((packets(&done), sends.outstanding()), (vec![(0, 4)], 0));
    }

    #[test]
    fn auto_asks_the_route_with_one_message_and_again_later() {
        let mut sends = ZeroCopySends::new(ZeroCopy::Auto);
        let mut done = Vec::new();
        assert_eq!(sends.messages(WORTH_PINNING - 1), None);
        assert_eq!(sends.messages(WORTH_PINNING), Some(1));
        sends.sent(SLOT, 0..1, 1);
        assert_eq!(sends.messages(u32::MAX), None);
        sends.release(0, 0, true, &mut done);
        assert_eq!(sends.messages(u32::MAX), None);
        let posts = (0..1000).find(|_| {
            sends.post_begins();
            sends.messages(u32::MAX).is_some()
        });
        assert!(posts.is_some_and(|posts| posts > 10), "{posts:?}");
        sends.sent(SLOT, 0..1, 1);
        sends.release(1, 1, false, &mut done);
        assert_eq!(sends.messages(u32::MAX), Some(ROOM));
        assert_eq!(sends.messages(WORTH_PINNING - 1), None);
    }

    proptest! {
        /// In whatever order and parts messages are released, each call is done exactly once, with
        /// the last of its messages and not before.
        #[test]
        fn every_call_is_done_once_and_not_early(
            first: u32,
            calls in prop::collection::vec(1_u32..6, 1..12),
            cuts in prop::collection::vec(any::<bool>(), 72),
            order in any::<u64>(),
        ) {
            let mut sends = sends(first, &calls);
            let total: u32 = calls.iter().sum();
            // Ranges of messages, in some order.
            let mut ranges: Vec<Range<u32>> = Vec::new();
            for message in 0..total {
                match ranges.last_mut() {
                    Some(range) if cuts[message as usize] => range.end = message + 1,
                    _ => ranges.push(message..message + 1),
                }
            }
            ranges.sort_by_key(|range| {
                (u64::from(range.start) + 1).wrapping_mul(order | 1).rotate_left(29)
            });
            let mut released = vec![false; total as usize];
            let mut is_done = vec![false; calls.len()];
            for range in ranges {
                let mut done = Vec::new();
                let id = |message: u32| first.wrapping_add(message);
                sends.release(id(range.start), id(range.end - 1), false, &mut done);
                released[range.start as usize..range.end as usize].fill(true);
                let mut start = 0;
                for (call, &messages) in calls.iter().enumerate() {
                    let packets = start..start + messages;
                    let whole = released[start as usize..packets.end as usize].iter().all(|it| *it);
                    let now = done.iter().any(|done| {
                        done.packets.start <= packets.start && packets.end <= done.packets.end
                    });
                    prop_assert_eq!(now, whole && !is_done[call]);
                    is_done[call] |= now;
                    start = packets.end;
                }
            }
            prop_assert_eq!(sends.outstanding(), 0);
            prop_assert_eq!(sends.uncopied, u64::from(total));
        }
    }
}
