//! Which heaps of a batch failed, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::backend::fault::{Fault, FaultInjector};
use crate::backend::pcap::{Pcap, PcapConfig};
use crate::plan::{HeapSpec, Order, PacketSize, Plan};
use crate::region::{Layout, Placement, Region};
use crate::sender::Sender;
use crate::wire::Flavour;

proptest! {
    /// Packets that are done in any pieces and any order, each with an error or none, and in the end whatever
    /// is left given up or not.
    #[test]
    fn heaps_fail_of_their_first_error(
        heaps in 1_usize..9,
        heap_len in 0_usize..400,
        order in select(vec![Order::Serial, Order::RoundRobin]),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        turns in prop::collection::vec((any::<Index>(), select(&ERRORS[..])), 14),
        done in 0_usize..14,
        unposted in any::<Index>(),
        disabled in prop::option::of(prop::collection::vec(any::<bool>(), 3)),
    ) {
        let in_flight = in_flight(&plan(heaps, heap_len, order, 3));
        let plan = in_flight.region().plan().clone();
        let heaps = in_flight.heaps();
        let disabled = disabled.map(Vec::into_boxed_slice);
        let is_off = |heap: u32| disabled.as_ref().is_some_and(|off| off[(heap % 3) as usize]);
        let mut entry = Entry::new(in_flight, 5, 2, disabled.clone(), None);

        // What the heaps fail of, found out one packet after the other.
        let mut expected: BTreeMap<u32, SendError> =
            (0..heaps).filter(|&heap| is_off(heap)).map(|heap| (heap, SendError::Disabled)).collect();
        let mut lose = |packets: Range<u32>, error: &SendError| {
            for packet in packets {
                let heap = plan.packets()[packet as usize].heap;
                expected.entry(heap).or_insert_with(|| error.clone());
            }
        };

        let mut posted = Vec::new();
        let last = unposted.index(plan.packets().len() + 1) as u32;
        while let Some(packets) = entry.unposted().filter(|packets| packets.start < last) {
            let end = cuts.iter().map(|cut| cut.index(plan.packets().len()) as u32);
            let end = end.filter(|cut| packets.contains(cut) && *cut > packets.start).min();
            let end = end.unwrap_or(packets.end);
            entry.posted(end - packets.start);
            posted.push(packets.start..end);
        }
        for (turn, error) in turns.iter().take(done) {
            if posted.is_empty() {
                break;
            }
            let packets = posted.remove(turn.index(posted.len()));
            if let Some(error) = error {
                lose(packets.clone(), error);
            }
            entry.done(Done { slot: entry.slot(), packets, error: error.clone() });
        }
        if !entry.is_complete() {
            // Of heaps that were posted and not done it is not known which went out.
            if posted.is_empty() {
                (0..plan.packets().len() as u32)
                    .filter(|&packet| entry.unposted().is_some_and(|left| packet >= left.start))
                    .filter(|&packet| !is_off(plan.packets()[packet as usize].heap))
                    .for_each(|packet| lose(packet..packet + 1, &SendError::Closed));
            } else {
                lose(0..plan.packets().len() as u32, &SendError::Closed);
            }
            entry.abandon(&SendError::Closed);
        }
        prop_assert!(entry.is_complete());
        let failures = complete(entry).failures;
        let expected: Vec<HeapFailure> = (expected.into_iter())
            .map(|(heap, error)| HeapFailure { heap, cnt: 5 + 2 * u64::from(heap), error })
            .collect();
        prop_assert_eq!(failures, expected);
    }
}

/// As many heaps as batches of the program have at most, all lost, in every way there is: to look for each of
/// them among those before would take minutes.
#[test]
fn a_large_batch_fails_as_a_whole() {
    let lost = [
        // In one post; in many, the latest of which are done first; before a post, when the backend breaks;
        // after one, when it does at the next batch.
        (vec![Fault::Lose(u32::MAX)], u32::MAX),
        (vec![Fault::Lose(u32::MAX); HEAPS.div_ceil(32)], 64),
        (vec![Fault::Lose(3000); HEAPS.div_ceil(1000)], 5000),
        (vec![Fault::Break], u32::MAX),
        (vec![Fault::Hold(9), Fault::Break], u32::MAX),
    ];
    for order in [Order::Serial, Order::RoundRobin] {
        let plan = plan(HEAPS, 80, order, 1);
        assert_eq!(plan.packets().len(), 2 * HEAPS);
        for (faults, max_in_flight) in lost.clone() {
            let batches = if faults.starts_with(&[Fault::Hold(9)]) { 2 } else { 1 };
            let pcap =
                Pcap::new(Box::new(std::io::sink()), &PcapConfig::to(vec![DESTINATION])).unwrap();
            let faulty = FaultInjector::new(Box::new(pcap), faults.into_iter());
            let mut sender = Sender::new(Box::new(faulty.with_max_in_flight(max_in_flight)));
            for batch in sender.allocate(&plan, Layout::Packed, batches, Vec::new()).unwrap() {
                sender.submit(batch).unwrap();
            }
            let mut cnts = 1..;
            while let Some(completion) = sender.wait() {
                assert_eq!(completion.failures.len(), HEAPS, "{order:?}");
                for (heap, failure) in (0..).zip(completion.failures) {
                    let cnt = cnts.next().unwrap();
                    let expected = HeapFailure { heap, cnt, error: SendError::Injected };
                    assert_eq!(failure, expected, "{order:?}");
                }
            }
            assert_eq!(cnts.start, 1 + u64::from(batches) * HEAPS as u64, "all came back");
        }
    }
}

#[test]
fn a_heap_that_the_file_lost_failed_of_that() {
    let mut failures = Failures::new(4);
    failures.add(2, &SendError::Injected);
    failures.add(0, &SendError::Closed);
    failures.add(2, &SendError::Closed);
    failures.replace(2, SendError::Disabled);
    failures.replace(3, SendError::Disabled);
    let failed: Vec<_> = failures
        .into_heaps(u64::from)
        .into_iter()
        .map(|failure| (failure.heap, failure.error))
        .collect();
    let expected = [(0, SendError::Closed), (2, SendError::Disabled), (3, SendError::Disabled)];
    assert_eq!(failed, expected);
}

fn complete(entry: Entry) -> Completion {
    #[expect(unsafe_code, reason = "there is no sender here, whose task this is")]
    // SAFETY: no backend was given it.
    entry.complete(|in_flight| unsafe { in_flight.reclaim() })
}

fn in_flight(plan: &Arc<Plan>) -> InFlight {
    let (_, mut batches) =
        Region::allocate(plan, Layout::Packed, 1, Placement::ADJACENT, Vec::new()).unwrap();
    batches.remove(0).stamp(plan.heaps(), 5, 2)
}

fn plan(heaps: usize, heap_len: usize, order: Order, flows: u32) -> Arc<Plan> {
    let heap = HeapSpec::new().payload(0x3300, heap_len);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(104))
        .heaps(&heap, heaps)
        .order(order)
        .flows(flows);
    Arc::new(plan.build().unwrap())
}

const ERRORS: [Option<SendError>; 3] = [None, Some(SendError::Injected), Some(SendError::Closed)];
const HEAPS: usize = if cfg!(miri) { 8 } else { 65_536 };
const DESTINATION: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 7148);
