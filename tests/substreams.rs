//! Substreams that are switched off and on while the others go on.

mod capture;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use doorbell::backend::SendError;
use doorbell::backend::fault::{Fault, FaultInjector};
use doorbell::backend::udp::{Udp, UdpConfig};
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan};
use doorbell::region::Layout;
use doorbell::sender::Sender;
use doorbell::wire::{Flavour, Packet};
use proptest::prelude::*;
use proptest::sample::select;

use self::capture::Capture;

proptest! {
    /// Whatever is switched when, and whatever the backend does: heaps to substreams that are on go out
    /// whole, in order, with the cnts that they have without any switch; the others fail as disabled,
    /// and not one packet of theirs is sent.
    #[test]
    fn a_switch_disturbs_no_other_substream(
        order in select(&[Order::Serial, Order::RoundRobin][..]),
        layout in select(&[Layout::Packed, Layout::Split][..]),
        batches in prop::collection::vec((prop::collection::vec(any::<bool>(), 3), 1_u32..=7), 1..12),
        shorts in prop::collection::vec(0_u32..6, 0..30),
    ) {
        let capture = Capture::default();
        let shorts = shorts.into_iter().map(Fault::Short);
        let backend = FaultInjector::new(capture.backend(&DESTINATIONS), shorts);
        let mut sender = Sender::new(Box::new(backend));
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(256))
            .heaps(&HeapSpec::new().payload(0x3300, 600), 7)
            .flows(3)
            .order(order);
        let plan = Arc::new(plan.build().unwrap());
        let mut idle = sender.allocate(&plan, layout, 1, Vec::new()).unwrap();
        let substreams = sender.substreams();
        // For each cnt: where it goes, and whether it may.
        let mut expected = BTreeMap::new();
        for (on, heaps) in batches {
            for (substream, &on) in on.iter().enumerate() {
                match on {
                    true => substreams.enable(substream as u32),
                    false => substreams.disable(substream as u32),
                };
            }
            let first = sender.next_cnt();
            let is_on = |heap: u32| on[heap as usize % 3];
            for heap in 0..heaps {
                let to: SocketAddr = DESTINATIONS[heap as usize % 3].parse().unwrap();
                expected.insert(first + u64::from(heap), (to, is_on(heap)));
            }
            sender.submit_first(idle.remove(0), heaps).unwrap();
            let completion = sender.wait().unwrap();
            let failed: Vec<_> = completion.failures.iter().map(|it| (it.heap, it.cnt)).collect();
            let off: Vec<_> =
                (0..heaps).filter(|&heap| !is_on(heap)).map(|heap| (heap, first + u64::from(heap))).collect();
            prop_assert_eq!(failed, off);
            prop_assert!(completion.failures.iter().all(|it| it.error == SendError::Disabled));
            idle.push(completion.batch);
        }
        let mut payload = BTreeMap::<u64, usize>::new();
        for (destination, bytes) in capture.datagrams() {
            let packet = Packet::parse(&bytes).unwrap();
            let cnt = packet.header().heap_cnt;
            prop_assert_eq!((destination, true), expected[&cnt]);
            *payload.entry(cnt).or_default() += packet.payload().len();
        }
        let whole: BTreeMap<u64, usize> =
            expected.iter().filter(|(_, (_, on))| *on).map(|(&cnt, _)| (cnt, 600)).collect();
        prop_assert_eq!(payload, whole);
    }
}

/// What was submitted before a switch goes out: a heap is sent whole or not at all.
#[test]
fn a_switch_waits_for_the_next_batch() {
    let capture = Capture::default();
    let backend =
        FaultInjector::new(capture.backend(&DESTINATIONS), std::iter::once(Fault::Short(0)));
    let mut sender = Sender::new(Box::new(backend));
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(256))
        .heaps(&HeapSpec::new().payload(0x3300, 600), 3)
        .flows(3)
        .build();
    let mut idle =
        sender.allocate(&Arc::new(plan.unwrap()), Layout::Packed, 1, Vec::new()).unwrap();
    sender.submit(idle.remove(0)).unwrap();
    assert!(capture.packets().is_empty(), "nothing is posted yet");
    let substreams = sender.substreams();
    (0..3).for_each(|substream| assert!(substreams.disable(substream)));
    let completion = sender.wait().unwrap();
    assert_eq!((completion.sent(), capture.packets().len()), (3, 9));

    sender.submit(completion.batch).unwrap();
    let completion = sender.wait().expect("a batch of nothing but disabled heaps comes back, too");
    assert_eq!((completion.sent(), capture.packets().len()), (0, 9));
}

/// Over the kernel's UDP, switched from another thread: one receiver misses its heaps while it is off, the
/// others miss none.
#[test]
fn receivers_of_other_substreams_miss_nothing() {
    let receivers: Vec<UdpSocket> =
        (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let to = receivers.iter().map(|receiver| receiver.local_addr().unwrap()).collect();
    let mut sender = Sender::new(Box::new(Udp::open(&UdpConfig::new(to)).unwrap()));
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(256))
        .heaps(&HeapSpec::new().payload(0x3300, 600), 6)
        .flows(3)
        .build();
    let mut idle =
        sender.allocate(&Arc::new(plan.unwrap()), Layout::Packed, 1, Vec::new()).unwrap();
    let substreams = sender.substreams();
    let (mut sent, mut failed) = (0, 0);
    for batch in 0..9_u64 {
        let handle = substreams.clone();
        let switch = move || match batch {
            3 => assert!(handle.disable(1)),
            6 => assert!(handle.enable(1)),
            _ => {}
        };
        thread::spawn(switch).join().unwrap();
        sender.submit(idle.remove(0)).unwrap();
        let completion = sender.wait().unwrap();
        sent += completion.sent();
        failed += completion.failures.len();
        idle.push(completion.batch);
    }
    assert_eq!((sent, failed), (54 - 6, 6));
    for (substream, receiver) in (0..3_u64).zip(&receivers) {
        let expected: Vec<u64> = (1..=54)
            .filter(|cnt| (cnt - 1) % 3 == substream)
            .filter(|cnt| substream != 1 || !(19..=36).contains(cnt))
            .collect();
        assert_eq!(cnts_of_whole_heaps(receiver), expected, "substream {substream}");
    }
}

/// The cnts of what waits at a socket, in order, three packets each.
fn cnts_of_whole_heaps(receiver: &UdpSocket) -> Vec<u64> {
    receiver.set_nonblocking(true).unwrap();
    let mut cnts = Vec::new();
    let mut bytes = [0; 2048];
    // Loopback has delivered by the time that the kernel has taken a packet.
    while let Ok(len) = receiver.recv(&mut bytes) {
        cnts.push(Packet::parse(&bytes[..len]).unwrap().header().heap_cnt);
    }
    assert!(cnts.chunks(3).all(|heap| heap == [heap[0]; 3]), "{cnts:?}");
    cnts.into_iter().step_by(3).collect()
}

const DESTINATIONS: [&str; 3] = ["192.0.2.7:7148", "192.0.2.8:7148", "192.0.2.9:7149"];
