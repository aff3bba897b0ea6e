//! A sender over a backend that misbehaves: every heap is accounted for, and every byte is right.

mod capture;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use doorbell::backend::SendError;
use doorbell::backend::fault::{Fault, FaultInjector};
use doorbell::pacer::{Counted, Rate};
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan};
use doorbell::region::{Batch, Layout};
use doorbell::sender::{AllocateError, Completion, Reason, Sender};
use doorbell::wire::{Flavour, Packet};
use proptest::prelude::*;
use proptest::sample::select;

use self::capture::Capture;

proptest! {
    #[test]
    fn every_heap_is_accounted_for(case in cases()) {
        let capture = Capture::default();
        let mut run = Run::new(&case, &capture);
        for &heaps in &case.submissions {
            run.submit(heaps);
        }
        if case.gives_up {
            run.sender.give_up();
        }
        while let Some(completion) = run.sender.wait() {
            run.complete(completion);
        }
        prop_assert_eq!(run.sender.in_flight(), 0);
        prop_assert_eq!(run.idle.len(), case.batches as usize, "all batches came back");

        let mut sent = HashMap::<u64, usize>::new();
        let mut expected = run.packets.iter();
        for (destination, payload) in capture.datagrams() {
            let packet = Packet::parse(&payload).unwrap();
            let (cnt, offset) = (packet.header().heap_cnt, packet.header().payload_offset as usize);
            prop_assert!(
                expected.any(|packet| packet == &(cnt, offset)),
                "heap {} at {} is out of order, or was sent twice", cnt, offset
            );
            let heap = &run.heaps[&cnt];
            let end = offset + packet.payload().len();
            prop_assert_eq!(packet.payload(), &heap.payload[offset..end]);
            prop_assert_eq!(destination, heap.destination);
            if offset == 0 {
                let pointer = packet.item_pointers().next().unwrap();
                prop_assert_eq!(pointer.value(Flavour::SPEAD_64_48), heap.timestamp);
            }
            *sent.entry(cnt).or_default() += packet.payload().len();
        }
        // Each heap is in one completion, and each completion in one count.
        let failed = run.heaps.values().filter(|heap| heap.failed == Some(true)).count() as u64;
        prop_assert_eq!(run.sent + failed, run.submitted);
        prop_assert_eq!(run.heaps.len() as u64, run.submitted);
        let refused = case.submissions.len() as u64 - run.accepted;
        prop_assert!(refused == 0 || run.sender.failure().is_some());

        let broken = case.faults.contains(&Fault::Break) || case.gives_up;
        let held = case.faults.iter().any(|fault| matches!(fault, Fault::Hold(_)));
        for (cnt, heap) in &run.heaps {
            let whole = sent.get(cnt) == Some(&heap.payload.len());
            let failed = heap.failed.expect("a completion");
            prop_assert!(whole || failed, "heap {} was lost, and said to be sent", cnt);
            // What was in flight when the backend broke may or may not have gone out.
            prop_assert!(!(whole && failed) || broken && held, "heap {} was sent after all", cnt);
        }
        if !broken && !case.faults.iter().any(|fault| matches!(fault, Fault::Lose(1..))) {
            prop_assert!(run.heaps.values().all(|heap| heap.failed == Some(false)));
        }
    }
}

/// A sender, its batches, and what is expected of it.
struct Run<'a> {
    case: &'a Case,
    sender: Sender,
    plan: Arc<Plan>,
    idle: Vec<Batch>,
    heaps: HashMap<u64, Heap>,
    /// Heap cnt and payload offset of each packet submitted, in order.
    packets: Vec<(u64, usize)>,
    /// Batches that the sender took, their heaps, and those of them that it says were sent.
    accepted: u64,
    submitted: u64,
    sent: u64,
}

struct Heap {
    payload: Vec<u8>,
    timestamp: u64,
    destination: SocketAddr,
    failed: Option<bool>,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, capture: &Capture) -> Self {
        let backend = FaultInjector::new(
            capture.backend(&case.destinations),
            case.faults.clone().into_iter(),
        )
        .with_max_in_flight(case.max_in_flight);
        let mut sender = Sender::new(Box::new(backend));
        sender.set_cnts(case.cnt_start, case.cnt_step);
        sender.pace(case.rate);
        let plan = Plan::builder(Flavour::SPEAD_64_48, PacketSize::Exact(256))
            .order(case.order)
            .flows(case.destinations.len() as u32);
        let plan = case.sizes.iter().fold(plan, |plan, &size| {
            plan.heaps(&HeapSpec::new().immediate(0x1600, 0).payload(0x3300, size), 1)
        });
        let plan = Arc::new(plan.build().unwrap());
        let idle = sender.allocate(&plan, case.layout, case.batches, Vec::new()).unwrap();
        let (accepted, submitted, sent) = (0, 0, 0);
        let (heaps, packets) = (HashMap::new(), Vec::new());
        Self { case, sender, plan, idle, heaps, packets, accepted, submitted, sent }
    }

    fn submit(&mut self, heaps: u32) {
        while self.idle.is_empty() {
            let completion = self.sender.wait().expect("a batch is in flight");
            self.complete(completion);
        }
        let heaps = heaps.min(self.plan.heaps());
        let mut batch = self.idle.remove(0);
        let first_cnt = self.sender.next_cnt();
        let cnt = |heap: u32| first_cnt + self.case.cnt_step * u64::from(heap);
        let mut filled = HashMap::new();
        for heap in 0..heaps {
            let timestamp = 1000 * cnt(heap);
            let payload: Vec<u8> = (0..self.plan.heap_len(heap))
                .map(|index| (cnt(heap) as usize * 31 + index * 7 + index / 256) as u8)
                .collect();
            batch.set_immediate(heap, 0x1600, timestamp).unwrap();
            assert_eq!(batch.fill(heap, &payload), payload.len());
            let flow = heap as usize % self.case.destinations.len();
            let destination = self.case.destinations[flow].parse().unwrap();
            filled.insert(cnt(heap), Heap { payload, timestamp, destination, failed: None });
        }
        match self.sender.submit_first(batch, heaps) {
            Ok(()) => {
                self.accepted += 1;
                self.submitted += u64::from(heaps);
                let packets = self.plan.packets().iter().filter(|packet| packet.heap < heaps);
                self.packets
                    .extend(packets.map(|packet| (cnt(packet.heap), packet.payload_offset)));
                self.heaps.extend(filled);
                let next = first_cnt + self.case.cnt_step * u64::from(heaps);
                assert_eq!(self.sender.next_cnt(), next);
            }
            Err(rejected) => {
                assert_eq!(rejected.reason, Reason::Failed(SendError::Injected));
                assert_eq!(self.sender.next_cnt(), first_cnt);
                self.idle.push(*rejected.batch);
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { batch, heaps, first_cnt, failures, .. } = &completion;
        assert_eq!(completion.sent() as usize + failures.len(), *heaps as usize);
        assert!(failures.is_sorted_by(|a, b| a.heap < b.heap), "{failures:?}");
        let known = [SendError::Injected, SendError::Closed];
        assert!(failures.iter().all(|failure| known.contains(&failure.error)));
        for heap in 0..*heaps {
            let cnt = first_cnt + self.case.cnt_step * u64::from(heap);
            let failure = failures.iter().find(|failure| failure.heap == heap);
            assert!(failure.is_none_or(|failure| failure.cnt == cnt));
            let failed = &mut self.heaps.get_mut(&cnt).expect("a heap submitted").failed;
            assert_eq!(failed.replace(failure.is_some()), None, "heap {cnt} came back twice");
        }
        assert_eq!(batch.heaps(), self.plan.heaps());
        self.sent += u64::from(completion.sent());
        self.idle.push(completion.batch);
    }
}

#[derive(Clone, Debug)]
struct Case {
    sizes: Vec<usize>,
    order: Order,
    layout: Layout,
    destinations: Vec<&'static str>,
    batches: u32,
    max_in_flight: u32,
    /// Heaps of each.
    submissions: Vec<u32>,
    faults: Vec<Fault>,
    cnt_start: u64,
    cnt_step: u64,
    rate: Option<Rate>,
    /// The sender lets go of the backend with batches in flight.
    gives_up: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        4 => (0_u32..6).prop_map(Fault::Short),
        2 => (0_u32..6).prop_map(Fault::Lose),
        3 => (0_u32..5).prop_map(Fault::Hold),
    ];
    let faults = (prop::collection::vec(fault, 0..20), prop::bool::weighted(0.3)).prop_map(
        |(mut faults, breaks)| {
            faults.extend(breaks.then_some(Fault::Break));
            faults
        },
    );
    let geometry = (
        prop::collection::vec(prop_oneof![1_usize..200, 1_usize..1500], 1..7),
        select(vec![Order::Serial, Order::RoundRobin]),
        select(vec![Layout::Packed, Layout::Split]),
        select(vec![
            vec!["192.0.2.7:7148"],
            vec!["192.0.2.7:7148", "239.1.2.3:7149"],
            vec!["[2001:db8::7]:7148", "[2001:db8::8]:7148", "[ff15::1]:7148"],
        ]),
    );
    let rate = (1_u32..2000).prop_map(|burst| Rate::new(2_000_000_000, burst));
    (
        geometry,
        (1_u32..4, prop_oneof![1_u32..10, Just(u32::MAX)]),
        (prop::collection::vec(1_u32..8, 1..8), faults),
        (0_u64..1000, 1_u64..5),
        (prop::option::of(rate), prop::bool::weighted(0.2)),
    )
        .prop_map(
            |(
                (sizes, order, layout, destinations),
                (batches, max_in_flight),
                (submissions, faults),
                (cnt_start, cnt_step),
                (rate, gives_up),
            )| Case {
                sizes,
                order,
                layout,
                destinations,
                batches,
                max_in_flight,
                submissions,
                faults,
                cnt_start,
                cnt_step,
                rate,
                gives_up,
            },
        )
}

#[test]
fn a_partial_batch_is_its_first_heaps_in_both_orders() {
    // Two heaps of three packets, one of one.
    for (order, expected) in [
        (Order::Serial, [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]),
        (Order::RoundRobin, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]),
    ] {
        let capture = Capture::default();
        let (mut sender, mut batches) = sender(&capture, &[], order, 1);
        sender.submit_first(batches.remove(0), 2).unwrap();
        assert_eq!(sender.wait().unwrap().heaps, 2);
        let found: Vec<_> = capture
            .packets()
            .iter()
            .map(|packet| {
                let header = *Packet::parse(packet).unwrap().header();
                (header.heap_cnt, header.payload_offset / 200)
            })
            .collect();
        assert_eq!(found, expected, "{order:?}");
    }
}

#[test]
fn a_batch_may_have_a_rate_of_its_own() {
    let capture = Capture::default();
    let (mut sender, mut batches) = sender(&capture, &[], Order::Serial, 2);
    // Heaps of 600, 600 and 5 bytes in packets of 3, 3 and 1.
    let rate = |burst, counts| Rate { counts, ..Rate::new(1_000_000_000, burst) };
    let mut doorbells = 0;
    for (rate, expected) in [
        (rate(1, Counted::Wire), 7),
        (rate(u32::MAX, Counted::Wire), 1),
        // The whole of a heap and no more, then what is left.
        (rate(600, Counted::Payload), 3),
        (rate(605, Counted::Payload), 2),
    ] {
        sender.submit_at(batches.pop().unwrap(), 3, rate).unwrap();
        batches.push(sender.wait().unwrap().batch);
        sender.submit(batches.pop().unwrap()).unwrap();
        batches.push(sender.wait().unwrap().batch);
        // A batch without a rate goes at once.
        doorbells += expected + 1;
        assert_eq!(sender.counters().doorbells, doorbells, "{rate:?}");
    }
    assert_eq!(capture.packets().len(), 8 * 7);
}

#[test]
fn a_post_of_nothing_is_no_burst() {
    let faults = [Fault::Short(0), Fault::Short(0), Fault::None, Fault::Short(0)];
    let (mut sender, mut batches) = sender(&Capture::default(), &faults, Order::Serial, 1);
    sender.submit_at(batches.remove(0), 3, Rate::new(1_000_000_000, 1)).unwrap();
    assert_eq!(sender.wait().unwrap().sent(), 3);
    // Between the seven packets of the batch.
    assert_eq!(sender.jitter().total(), 6);
}

/// A pause for want of batches is no gap between bursts, and nothing of it is made up for.
#[test]
fn the_schedule_starts_anew_after_idleness() {
    let (mut sender, mut batches) = sender(&Capture::default(), &[], Order::Serial, 2);
    sender.pace(Some(Rate::new(1_000_000_000, 1)));
    for batch in batches.drain(..) {
        sender.submit(batch).unwrap();
        assert_eq!(sender.wait().unwrap().sent(), 3);
        // Longer than what a scheduler takes from who has something to send.
        std::thread::sleep(Duration::from_millis(20));
    }
    // Between the seven packets of each, and not between the two.
    assert_eq!(sender.jitter().total(), 6 + 6);
}

#[test]
fn what_is_not_accepted_comes_back_as_it_was() {
    let capture = Capture::default();
    let (mut other, mut foreign) = sender(&Capture::default(), &[], Order::Serial, 1);
    let (mut sender, mut batches) = sender(&capture, &[], Order::Serial, 1);
    let mut batch = foreign.remove(0);
    batch.fill(2, b"foreign");
    let rejected = sender.submit(batch).unwrap_err();
    assert_eq!(rejected.reason, Reason::Foreign);
    // It still is what the other sender gave out.
    other.submit(*rejected.batch).unwrap();
    assert_eq!(other.wait().unwrap().sent(), 3);

    let mut batch = batches.remove(0);
    batch.fill(2, b"ours");
    let slot = batch.slot();
    for asked in [0, 4, u32::MAX] {
        let rejected = sender.submit_first(batch, asked).unwrap_err();
        assert_eq!(rejected.reason, Reason::Heaps { asked, batch: 3 });
        batch = *rejected.batch;
        assert_eq!(batch.slot(), slot);
    }
    assert_eq!((sender.in_flight(), sender.next_cnt()), (0, 1));
    assert!(sender.wait().is_none());
    assert!(capture.packets().is_empty());
    sender.submit(batch).unwrap();
    assert_eq!(sender.wait().unwrap().sent(), 3);
    assert!(capture.packets().last().unwrap().ends_with(b"ours\0"));
}

#[test]
fn a_heap_attached_to_nothing_is_named() {
    let mut sender = Sender::new(Capture::default().backend(&[TO]));
    let heap = HeapSpec::new().payload(0x3300, 5);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472)).heaps(&heap, 2);
    let plan = Arc::new(plan.build().unwrap());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"doorbell").unwrap();
    let file = Arc::new(doorbell::region::Memory::file(file.path()).unwrap());
    let mut batches = sender.allocate(&plan, Layout::Attached, 1, vec![file]).unwrap();
    let mut batch = batches.remove(0);
    assert!(batch.attach(0, 0, 3));
    // Beyond the end, of no such source, to no such heap.
    assert!(!batch.attach(1, 0, 4) && !batch.attach(1, 1, 0) && !batch.attach(2, 0, 0));
    let rejected = sender.submit(batch).unwrap_err();
    assert_eq!(rejected.reason, Reason::Unattached { heap: 1 });
    sender.submit_first(*rejected.batch, 1).unwrap();
    assert_eq!(sender.wait().unwrap().sent(), 1);
}

#[test]
fn heaps_that_their_file_lost_failed() {
    // Whole pages, of any size that there is: a file's last page reads as zeros beyond its end.
    const LEN: usize = 1 << 16;
    let mut sender = Sender::new(Capture::default().backend(&[TO]));
    let heap = HeapSpec::new().payload(0x3300, LEN);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(8972)).heaps(&heap, 3);
    let plan = Arc::new(plan.build().unwrap());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &[7; 3 * LEN]).unwrap();
    let memory = Arc::new(doorbell::region::Memory::file(file.path()).unwrap());
    let mut batch = sender.allocate(&plan, Layout::Attached, 1, vec![memory]).unwrap().remove(0);
    for heap in 0..3 {
        assert!(batch.attach(heap, 0, LEN * heap as usize));
    }
    file.as_file().set_len(LEN as u64).unwrap();
    sender.submit(batch).unwrap();
    let completion = sender.wait().unwrap();
    let failed: Vec<_> = completion.failures.iter().map(|it| (it.heap, it.cnt)).collect();
    assert_eq!(failed, [(1, 2), (2, 3)]);
    for failure in &completion.failures {
        assert!(matches!(failure.error, SendError::Truncated(_)), "{}", failure.error);
    }
}

#[test]
fn a_broken_backend_is_not_used_again() {
    let capture = Capture::default();
    let faults = [Fault::Short(4), Fault::Break];
    let (mut sender, mut batches) = sender(&capture, &faults, Order::Serial, 2);
    sender.submit(batches.remove(0)).unwrap();
    let completion = sender.wait().unwrap();
    assert_eq!(
        completion.failures.iter().map(|f| (f.heap, f.cnt)).collect::<Vec<_>>(),
        [(1, 2), (2, 3)]
    );
    assert_eq!(sender.counters().packets, 4, "counters outlive the backend");
    let rejected = sender.submit(batches.remove(0)).unwrap_err();
    assert_eq!(rejected.reason, Reason::Failed(SendError::Injected));
    let plan = rejected.batch.region().plan().clone();
    assert!(matches!(
        sender.allocate(&plan, Layout::Packed, 1, Vec::new()),
        Err(AllocateError::Failed)
    ));
}

#[test]
fn a_plan_of_too_many_flows_is_refused() {
    let mut sender = Sender::new(Capture::default().backend(&[TO]));
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472))
        .heaps(&HeapSpec::new(), 2)
        .flows(2);
    let plan = Arc::new(plan.build().unwrap());
    assert!(matches!(
        sender.allocate(&plan, Layout::Packed, 1, Vec::new()),
        Err(AllocateError::Flows { plan: 2, backend: 1 })
    ));
}

#[test]
fn close_waits_for_what_is_in_flight() {
    let capture = Capture::default();
    let faults = [Fault::Hold(3), Fault::Short(1), Fault::Short(0)];
    let (mut sender, batches) = sender(&capture, &faults, Order::Serial, 3);
    batches.into_iter().for_each(|batch| sender.submit(batch).unwrap());
    let completions = sender.close(Duration::MAX);
    assert_eq!(completions.iter().map(Completion::sent).collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(capture.packets().len(), 3 * 7);
}

#[test]
fn close_gives_back_what_does_not_end() {
    let faults = [Fault::Hold(u32::MAX), Fault::Short(5), Fault::Short(0)];
    let capture = Capture::default();
    let (mut sender, batches) = sender(&capture, &faults, Order::Serial, 2);
    batches.into_iter().for_each(|batch| sender.submit(batch).unwrap());
    let completions = sender.close(Duration::ZERO);
    assert_eq!(completions.len(), 2);
    let failed: Vec<_> = completions
        .iter()
        .flat_map(|completion| &completion.failures)
        .map(|failure| (failure.cnt, failure.error.clone()))
        .collect();
    // The first batch is unknown; of the second, the first heap was done.
    let closed = |cnt| (cnt, SendError::Closed);
    assert_eq!(failed, [1, 2, 3, 5, 6].map(closed));
}

#[test]
fn cnts_wrap_as_on_the_wire() {
    let capture = Capture::default();
    let (mut sender, mut batches) = sender(&capture, &[Fault::Lose(8)], Order::Serial, 1);
    sender.set_cnts((1 << 40) - 2, 1);
    sender.submit(batches.remove(0)).unwrap();
    let completion = sender.wait().unwrap();
    let cnts: Vec<u64> = completion.failures.iter().map(|failure| failure.cnt).collect();
    assert_eq!(cnts, [(1 << 40) - 2, (1 << 40) - 1, 0]);
    sender.submit(completion.batch).unwrap();
    let completion = sender.wait().unwrap();
    let first = Packet::parse(&capture.packets()[0]).unwrap().header().heap_cnt;
    assert_eq!((first, completion.first_cnt), (1, 1));
}

/// A sender of batches of two heaps of three packets and one of one packet.
fn sender(capture: &Capture, faults: &[Fault], order: Order, batches: u32) -> (Sender, Vec<Batch>) {
    let faults: Vec<Fault> = faults.into();
    let backend = FaultInjector::new(capture.backend(&[TO]), faults.into_iter());
    let mut sender = Sender::new(Box::new(backend));
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(256))
        .heaps(&HeapSpec::new().payload(0x3300, 600), 2)
        .heaps(&HeapSpec::new().payload(0x3300, 5), 1)
        .order(order);
    let plan = Arc::new(plan.build().unwrap());
    let batches = sender.allocate(&plan, Layout::Packed, batches, Vec::new()).unwrap();
    (sender, batches)
}

const TO: &str = "192.0.2.7:7148";
