//! What became of the heaps of a stream: counted by the thread that posts, read by any.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::backend::Counters;
use crate::plan::Plan;
use crate::sender::{Completion, Rejected, Sender};

/// What is known of a stream at one moment. Each number is right by itself; together they are of about the
/// same moment.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Figures {
    /// Data heaps submitted.
    pub heaps: u64,
    /// Those of them that did not go out whole.
    pub heaps_failed: u64,
    /// Bytes of payload in the heaps that went out whole.
    pub payload_bytes: u64,
    /// Bytes of all packets, with Ethernet, IP and UDP headers; over TCP, bytes of the stream.
    pub wire_bytes: u64,
    /// Batches in flight.
    pub in_flight: u64,
    /// What the backend did.
    pub counters: Counters,
}

/// What became of the data heaps of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Where they went.
    pub to: SocketAddr,
    /// Heaps submitted.
    pub heaps: u64,
    /// Those of them that did not go out whole.
    pub heaps_failed: u64,
    /// Packets of the heaps submitted.
    pub packets: u64,
    /// Packets of the heaps that did not go out whole.
    pub packets_failed: u64,
    /// Bytes of payload in the heaps submitted.
    pub payload_bytes: u64,
    /// Bytes of payload in the heaps that did not go out whole.
    pub payload_bytes_failed: u64,
}

pub(super) struct Ledger {
    /// Payload of a data heap.
    payload: u64,
    overhead: u64,
    /// Regions of batches with data.
    data: [u64; 2],
    /// Where there are several destinations, one for each.
    destinations: Box<[Account]>,
    submitted: AtomicU64,
    failed: AtomicU64,
    others_failed: AtomicU64,
    sent: AtomicU64,
    spead_bytes: AtomicU64,
    in_flight: AtomicU64,
    broken: AtomicBool,
    opened: Instant,
    /// In milliseconds since.
    next_warning: AtomicU64,
    counters: [AtomicU64; COUNTERS],
}

struct Account {
    to: SocketAddr,
    heaps: AtomicU64,
    failed: AtomicU64,
    packets: AtomicU64,
    packets_failed: AtomicU64,
}

impl Ledger {
    /// Of batches with data in these two regions, whose heaps have `payload` bytes.
    pub(super) fn new(to: &[SocketAddr], data: [u64; 2], payload: usize, overhead: usize) -> Self {
        // What is said of the stream is said of a single destination.
        let several = if to.len() > 1 { to } else { &[] };
        let account = |&to: &SocketAddr| Account {
            to,
            heaps: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            packets_failed: AtomicU64::new(0),
        };
        Self {
            payload: payload as u64,
            overhead: overhead as u64,
            data,
            destinations: several.iter().map(account).collect(),
            submitted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            others_failed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            spead_bytes: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            opened: Instant::now(),
            next_warning: AtomicU64::new(0),
            counters: [const { AtomicU64::new(0) }; COUNTERS],
        }
    }

    /// Counts heaps with data that are about to be submitted.
    pub(super) fn submit(&self, heaps: u32) {
        add(&self.submitted, heaps.into());
    }

    /// Takes note of what came of a batch.
    pub(super) fn note(&self, result: &Result<Completion, Rejected>, sender: &Sender) {
        match result {
            Ok(completion) => {
                let batch = &completion.batch;
                let plan = batch.region().plan();
                add(&self.spead_bytes, plan.bytes_of_first(completion.heaps));
                if self.carries_data(batch.slot().region) {
                    add(&self.sent, completion.sent().into());
                    let failed = completion.failures.iter().map(|failure| failure.heap);
                    self.deal_out(plan, completion.heaps, failed);
                }
                self.lose(batch.slot().region, completion.failures.len() as u64);
                if let Some(first) = completion.failures.first()
                    && self.may_warn()
                {
                    let failed = self.failed.load(Ordering::Relaxed) + self.others_failed();
                    tracing::warn!(
                        "{} of {} heaps did not go out, {failed} so far, the first with cnt {}: {}",
                        completion.failures.len(),
                        completion.heaps,
                        first.cnt,
                        first.error
                    );
                }
            }
            Err(rejected) => {
                tracing::error!(%rejected, "heaps were not sent");
                let batch = &rejected.batch;
                let heaps = rejected.heaps;
                if self.carries_data(batch.slot().region) {
                    self.deal_out(batch.region().plan(), heaps, 0..heaps);
                }
                self.lose(batch.slot().region, heaps.into());
            }
        }
        self.observe(sender);
    }

    /// Whether it is a second since it last did: batches may fail by the thousand.
    fn may_warn(&self) -> bool {
        let now = self.opened.elapsed().as_millis() as u64;
        let next = self.next_warning.load(Ordering::Relaxed);
        if now >= next {
            self.next_warning.store(now + WARNING_INTERVAL, Ordering::Relaxed);
        }
        now >= next
    }

    /// Takes note of how the sender stands.
    pub(super) fn observe(&self, sender: &Sender) {
        self.in_flight.store(sender.in_flight() as u64, Ordering::Relaxed);
        for (ours, value) in self.counters.iter().zip(to_array(&sender.counters())) {
            ours.store(value, Ordering::Relaxed);
        }
        if sender.failure().is_some() {
            self.broken.store(true, Ordering::Release);
        }
    }

    /// Whether the backend has failed for good.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Heaps of descriptors and stream control that did not go out.
    pub(super) fn others_failed(&self) -> u64 {
        self.others_failed.load(Ordering::Relaxed)
    }

    pub(super) fn figures(&self) -> Figures {
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let counters = from_array(self.counters.each_ref().map(load));
        Figures {
            heaps: load(&self.submitted),
            heaps_failed: load(&self.failed),
            payload_bytes: load(&self.sent) * self.payload,
            wire_bytes: load(&self.spead_bytes) + counters.packets * self.overhead,
            in_flight: load(&self.in_flight),
            counters,
        }
    }

    pub(super) fn destinations(&self) -> Vec<Destination> {
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let destination = |it: &Account| Destination {
            to: it.to,
            heaps: load(&it.heaps),
            heaps_failed: load(&it.failed),
            packets: load(&it.packets),
            packets_failed: load(&it.packets_failed),
            payload_bytes: load(&it.heaps) * self.payload,
            payload_bytes_failed: load(&it.failed) * self.payload,
        };
        self.destinations.iter().map(destination).collect()
    }

    /// Counts heaps that are lost without word of them: those of a thread that panicked.
    pub(super) fn lose_the_rest(&self) {
        let all = self.submitted.load(Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed);
        self.failed.store(all.saturating_sub(sent), Ordering::Relaxed);
    }

    fn deal_out(&self, plan: &Plan, heaps: u32, failed: impl Iterator<Item = u32>) {
        let flows = self.destinations.len() as u32;
        if flows == 0 {
            return;
        }
        // Where there are several destinations, data heaps are all alike.
        let packets = u64::from(plan.packets_of_heap(0));
        for (flow, account) in (0..flows).zip(&self.destinations) {
            let dealt = u64::from(heaps.saturating_sub(flow).div_ceil(flows));
            add(&account.heaps, dealt);
            add(&account.packets, dealt * packets);
        }
        for heap in failed {
            let account = &self.destinations[(heap % flows) as usize];
            add(&account.failed, 1);
            add(&account.packets_failed, packets);
        }
    }

    fn lose(&self, region: u64, heaps: u64) {
        match self.carries_data(region) {
            true => add(&self.failed, heaps),
            false => add(&self.others_failed, heaps),
        }
    }

    fn carries_data(&self, region: u64) -> bool {
        self.data.contains(&region)
    }
}

/// Each number has one writer, so that what is read is never ahead of what is there.
fn add(number: &AtomicU64, more: u64) {
    number.fetch_add(more, Ordering::Relaxed);
}

fn to_array(counters: &Counters) -> [u64; COUNTERS] {
    let Counters {
        doorbells,
        messages,
        packets,
        segmentation_refused,
        waits,
        icmp_errors,
        uncopied,
        copied,
        reconnects,
        unacknowledged,
    } = *counters;
    [
        doorbells,
        messages,
        packets,
        segmentation_refused,
        waits,
        icmp_errors,
        uncopied,
        copied,
        reconnects,
        unacknowledged,
    ]
}

fn from_array(numbers: [u64; COUNTERS]) -> Counters {
    let [
        doorbells,
        messages,
        packets,
        segmentation_refused,
        waits,
        icmp_errors,
        uncopied,
        copied,
        reconnects,
        unacknowledged,
    ] = numbers;
    Counters {
        doorbells,
        messages,
        packets,
        segmentation_refused,
        waits,
        icmp_errors,
        uncopied,
        copied,
        reconnects,
        unacknowledged,
    }
}

/// In milliseconds.
const WARNING_INTERVAL: u64 = 1000;
const COUNTERS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HeapSpec, PacketSize};
    use crate::wire::Flavour;

    #[test]
    fn heaps_are_dealt_out_and_failures_found() {
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(256))
            .heaps(&HeapSpec::new().payload(0x3300, 600), 9)
            .flows(3)
            .build()
            .unwrap();
        let to = ["192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:3"].map(|to| to.parse().unwrap());
        let ledger = Ledger::new(&to, [1, 2], 600, 42);
        ledger.deal_out(&plan, 9, [1, 4, 5].into_iter());
        ledger.deal_out(&plan, 4, std::iter::empty());
        let list = ledger.destinations();
        let counts: Vec<_> = list.iter().map(|it| (it.heaps, it.heaps_failed)).collect();
        assert_eq!(counts, [(5, 0), (4, 2), (4, 1)]);
        assert_eq!((list[1].packets, list[1].packets_failed), (12, 6));
        assert_eq!((list[0].payload_bytes, list[2].payload_bytes_failed), (3000, 600));
        assert!(Ledger::new(&to[..1], [1, 2], 600, 42).destinations().is_empty());
    }

    #[test]
    fn counters_come_out_as_they_go_in() {
        let numbers = std::array::from_fn(|index| index as u64);
        assert_eq!(to_array(&from_array(numbers)), numbers);
    }
}
