//! Against the kernel's own sockets, on loopback.

mod namespace;
mod zero_copy;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use socket2::SockRef;

use super::*;
use crate::backend::interface::Interface;
use crate::backend::socket::set_option;
use crate::plan::{HeapSpec, Order, PacketSize, Plan};
use crate::region::{Batch, Layout, Memory};
use crate::wire::{Flavour, Packet};

#[test]
fn every_layout_arrives_over_both_families_in_one_call() {
    for address in loopbacks() {
        for layout in LAYOUTS {
            let receiver = Receiver::bind(address);
            let mut udp = open(&[receiver.address()]);
            // Runs of 40, 24 of them full, and heaps of several packets with a short last one.
            for plan in [plan(&[(8192, 64)], 1472), plan(&[(10_001, 8)], 1472)] {
                let before = udp.counters();
                let mut batch = batch(&plan, layout, &mut udp);
                let packets = plan.packets().len() as u32;
                assert_eq!(send(&mut udp, &mut batch, 0..packets), [done(&batch, 0..packets)]);
                receiver.expect(&batch, 0..packets);
                let after = udp.counters();
                assert_eq!(after.doorbells - before.doorbells, 1);
                assert_eq!(after.packets - before.packets, u64::from(packets));
                assert!(after.messages - before.messages <= u64::from(packets.div_ceil(6)));
                assert_eq!(after.waits, 0);
            }
        }
    }
}

#[test]
fn what_arrives_is_what_was_filled_in() {
    let receiver = Receiver::bind(LOOPBACK_V4);
    for layout in LAYOUTS {
        let mut udp = open(&[receiver.address()]);
        let plan = plan(&[(1, 1), (9, 2), (100_000, 3)], 8972);
        let mut batch = batch(&plan, layout, &mut udp);
        send(&mut udp, &mut batch, 0..plan.packets().len() as u32);
        let mut heaps: Vec<Vec<u8>> =
            (0..plan.heaps()).map(|heap| vec![0; plan.heap_len(heap)]).collect();
        for _ in plan.packets() {
            let bytes = receiver.receive();
            let packet = Packet::parse(&bytes).unwrap();
            let header = packet.header();
            let heap = &mut heaps[((header.heap_cnt - FIRST_CNT) / CNT_STEP) as usize];
            assert_eq!(header.heap_length, heap.len() as u64);
            let start = header.payload_offset as usize;
            heap[start..start + packet.payload().len()].copy_from_slice(packet.payload());
        }
        for (heap, received) in heaps.iter().enumerate() {
            let len = plan.shape(heap as u32).fills.iter().map(|(_, range)| range.len()).sum();
            assert_eq!(received[..len], content(heap as u32, 0, len));
        }
    }
}

#[test]
fn several_destinations_take_one_call() {
    for address in loopbacks() {
        for order in [Order::Serial, Order::RoundRobin] {
            let receivers: Vec<_> = (0..3).map(|_| Receiver::bind(address)).collect();
            let mut udp = open(&receivers.iter().map(Receiver::address).collect::<Vec<_>>());
            let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 5000);
            let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472))
                .heaps(&heap, 10)
                .flows(3)
                .order(order);
            let plan = Arc::new(plan.build().unwrap());
            let mut batch = batch(&plan, Layout::Packed, &mut udp);
            send(&mut udp, &mut batch, 0..40);
            assert_eq!(udp.counters().doorbells, 1);
            for (flow, receiver) in receivers.iter().enumerate() {
                for packet in 0..40 {
                    if plan.packets()[packet as usize].flow as usize == flow {
                        receiver.expect(&batch, packet..packet + 1);
                    }
                }
                receiver.expect_nothing();
            }
        }
    }
}

#[test]
fn multicast_leaves_through_the_interface() {
    let receiver = Receiver::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    let group = Ipv4Addr::new(239, 86, 7, 1);
    receiver.0.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    let lo = Interface::find("lo").unwrap();
    let udp = assert_multicast_arrives(group.into(), &lo, &receiver);
    let socket = SockRef::from(&udp);
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 7);
    assert_eq!(socket.ttl_v4().unwrap(), 7);
}

fn assert_multicast_arrives(group: IpAddr, from: &Interface, receiver: &Receiver) -> Udp {
    let group = SocketAddr::new(group, receiver.address().port());
    let interface = Some(from.clone());
    let config = UdpConfig { interface, ttl: Some(7), ..UdpConfig::new(vec![group]) };
    // IPv4 packets end at 65,535 bytes, whatever loopback says.
    assert_eq!(route_mtu(&config).unwrap(), from.mtu.min(65_535));
    let mut udp = Udp::open(&config).unwrap();
    let mut batch = batch(&plan(&[(8192, 8)], 1472), Layout::Packed, &mut udp);
    let packets = batch.region().plan().packets().len() as u32;
    send(&mut udp, &mut batch, 0..packets);
    receiver.expect(&batch, 0..packets);
    udp
}

#[test]
fn a_refused_message_goes_packet_by_packet_and_segmentation_is_tried_again() {
    for (layout, destinations) in LAYOUTS.into_iter().zip([1, 2, 1]) {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let mut udp = open(&vec![receiver.address(); destinations]);
        // Segments need checksums: udp_send_skb() answers EINVAL to a socket that sends none.
        let no_check =
            |udp: &Udp, on| set_option(udp.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, on);
        no_check(&udp, 1).unwrap();
        let plan = plan(&[(8192, 8)], 1472);
        let packets = plan.packets().len() as u32;
        let mut batch = batch(&plan, layout, &mut udp);
        // The cut messages at either end must be right as well.
        assert_eq!(send(&mut udp, &mut batch, 1..packets - 1), [done(&batch, 1..packets - 1)]);
        receiver.expect(&batch, 1..packets - 1);
        let counters = udp.counters();
        assert_eq!(counters.segmentation_refused, 1);
        assert_eq!(counters.messages, u64::from(packets - 2));

        no_check(&udp, 0).unwrap();
        let segmented = (0..200).find(|_| {
            let before = udp.counters();
            send(&mut udp, &mut batch, 0..packets);
            receiver.expect(&batch, 0..packets);
            let after = udp.counters();
            assert_eq!(after.doorbells - before.doorbells, 1);
            after.messages - before.messages < u64::from(packets)
        });
        assert!(segmented.is_some_and(|posts| posts > 0), "{segmented:?}");
        assert_eq!(udp.counters().segmentation_refused, 1);
    }
}

#[test]
fn a_packet_that_is_too_large_fails_alone() {
    let receiver = Receiver::bind(LOOPBACK_V4);
    let mut udp = open(&[receiver.address()]);
    let heaps = |size, count| (HeapSpec::new().payload(0x3300, size), count);
    let mut builder = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(65_520));
    for (spec, count) in [heaps(1000, 3), heaps(70_000, 1), heaps(1000, 3)] {
        builder = builder.heaps(&spec, count);
    }
    let plan = Arc::new(builder.build().unwrap());
    let mut batch = batch(&plan, Layout::Packed, &mut udp);
    assert_eq!(plan.packets().len(), 8);
    let mtu = Some(65_535);
    let error = Some(SendError::TooLarge { bytes: 65_520, mtu });
    assert_eq!(
        send(&mut udp, &mut batch, 0..8),
        [done(&batch, 0..3), Done { error, ..done(&batch, 3..4) }, done(&batch, 4..8)]
    );
    receiver.expect(&batch, 0..3);
    receiver.expect(&batch, 4..8);
    assert_eq!(udp.counters().segmentation_refused, 0);
}

#[test]
fn where_nobody_listens_nothing_is_held_up() {
    for address in loopbacks() {
        for destinations in [1, 2] {
            let closed = Receiver::bind(address).address();
            let open_one = Receiver::bind(address);
            let mut udp = open(&[closed, open_one.address()][..destinations]);
            let heap = HeapSpec::new().payload(0x3300, 1000);
            let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472))
                .heaps(&heap, 40)
                .flows(destinations as u32);
            let plan = Arc::new(plan.build().unwrap());
            let mut batch = batch(&plan, Layout::Split, &mut udp);
            for _ in 0..3 {
                assert_eq!(send(&mut udp, &mut batch, 0..40), [done(&batch, 0..40)]);
                if destinations == 2 {
                    open_one.expect(&batch, 20..40);
                }
            }
            assert!(udp.counters().icmp_errors > 0, "{destinations} at {address}");
            // Once somebody does, they get all.
            let late = Receiver::bind(closed);
            send(&mut udp, &mut batch, 0..40);
            late.expect(&batch, 0..40 / destinations as u32);
            late.expect_nothing();
        }
    }
}

#[test]
fn heaps_that_are_attached_anew_are_followed() {
    let receiver = Receiver::bind(LOOPBACK_V4);
    let mut udp = open(&[receiver.address()]);
    let plan = plan(&[(5000, 4)], 1472);
    let packets = plan.packets().len() as u32;
    let (mut batch, _file) = attached(&plan, udp.caps().placement);
    udp.register(batch.region(), &mut []).unwrap();
    for round in 0..3 {
        for heap in (0..4).filter(|heap| round == 0 || heap % 2 == round % 2) {
            assert!(batch.attach(heap, 0, round as usize * 1000 + heap as usize * 5000));
        }
        let mut sent = batch.stamp(4, FIRST_CNT, CNT_STEP);
        send(&mut udp, &mut sent, 0..packets);
        receiver.expect(&sent, 0..packets);
        batch = take_back(sent);
    }
}

#[test]
fn what_does_not_suit_is_refused() {
    let receiver = Receiver::bind(LOOPBACK_V4);
    let mut udp = open(&[receiver.address()]);
    let heap = HeapSpec::new().payload(0x3300, 1000);
    let plan = |flows| {
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472));
        Arc::new(plan.heaps(&heap, 2).flows(flows).build().unwrap())
    };
    let placement = udp.caps().placement;
    let region =
        |flows, placement| Region::allocate(&plan(flows), Layout::Packed, 1, placement, vec![]);
    let error = |udp: &mut Udp, region: &Arc<Region>| {
        udp.register(region, &mut []).unwrap_err().to_string()
    };
    let (flows, _) = region(2, placement).unwrap();
    assert!(
        error(&mut udp, &flows).contains("the plan has 2 flows, and there are destinations for 1")
    );
    let (headroom, _) = region(1, Placement::one_by_one(42)).unwrap();
    assert!(error(&mut udp, &headroom).contains("packets must lie as its `caps` have it"));

    let (known, mut batches) = region(1, placement).unwrap();
    let mut batch = batches.remove(0).stamp(2, 0, 1);
    assert_eq!(udp.post(&mut batch, 0..2), Err(UNKNOWN));
    udp.register(&known, &mut []).unwrap();
    assert_eq!(udp.post(&mut batch, 0..3), Err(UNKNOWN));
    assert_eq!(udp.post(&mut batch, 1..1), Ok(0));
    assert_eq!(udp.post(&mut batch, 0..2), Ok(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever ranges are posted: exactly these packets arrive, in order, once.
    #[test]
    fn ranges_may_be_cut_anywhere(
        layout in select(&LAYOUTS[..]),
        heaps in prop::collection::vec((1_usize..6000, 1_usize..12), 1..4),
        limit in 64_usize..1473,
        round_robin: bool,
        cuts in prop::collection::vec((any::<Index>(), any::<Index>()), 1..6),
    ) {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let mut udp = open(&[receiver.address()]);
        let mut builder = Plan::builder(Flavour::SPEAD_64_48, PacketSize::Uniform { limit });
        for (size, count) in heaps {
            builder = builder.heaps(&HeapSpec::new().payload(0x3300, size), count);
        }
        if round_robin {
            builder = builder.order(Order::RoundRobin);
        }
        let plan = Arc::new(builder.build().unwrap());
        let mut batch = batch(&plan, layout, &mut udp);
        let packets = plan.packets().len();
        for (one, other) in cuts {
            let (one, other) = (one.index(packets + 1) as u32, other.index(packets + 1) as u32);
            // In steps, lest small packets overflow the receiver's buffer.
            let range = one.min(other)..one.max(other);
            for start in range.clone().step_by(2500) {
                let part = start..range.end.min(start + 2500);
                prop_assert_eq!(send(&mut udp, &mut batch, part.clone()), [done(&batch, part.clone())]);
                receiver.expect(&batch, part);
            }
        }
        receiver.expect_nothing();
    }
}

/// A socket that hears all that is sent to it.
struct Receiver(UdpSocket);

impl Receiver {
    fn bind(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &(64 << 20)));
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let len = self.0.recv(&mut bytes).expect("a packet is lost");
        bytes.truncate(len);
        bytes
    }

    /// These packets are next.
    fn expect(&self, batch: &InFlight, packets: Range<u32>) {
        for packet in packets {
            let (expected, bytes) = (batch.packet(packet), self.receive());
            // Not `assert_eq`, which prints both.
            assert!(bytes == expected.to_vec(), "not packet {packet}");
        }
    }

    fn expect_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.recv(&mut [0; 8]).is_err());
        self.0.set_nonblocking(false).unwrap();
    }
}

fn open(destinations: &[SocketAddr]) -> Udp {
    open_with(destinations, ZeroCopy::Off)
}

fn open_with(destinations: &[SocketAddr], zero_copy: ZeroCopy) -> Udp {
    Udp::open(&UdpConfig { zero_copy, ..UdpConfig::new(destinations.into()) }).unwrap()
}

/// Heaps of some sizes and numbers.
fn plan(heaps: &[(usize, usize)], limit: usize) -> Arc<Plan> {
    let mut builder = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit });
    for &(size, count) in heaps {
        builder = builder.heaps(&HeapSpec::new().immediate(0x1600, 0).payload(0x3300, size), count);
    }
    Arc::new(builder.build().unwrap())
}

/// A batch full of bytes that tell heaps and places apart, registered and about to be sent.
fn batch(plan: &Arc<Plan>, layout: Layout, udp: &mut Udp) -> InFlight {
    let mut batch = match layout {
        Layout::Attached => attached(plan, udp.caps().placement).0,
        _ => Region::allocate(plan, layout, 1, udp.caps().placement, vec![]).unwrap().1.remove(0),
    };
    let mut offset = 0;
    for heap in 0..plan.heaps() {
        if layout == Layout::Attached {
            assert!(batch.attach(heap, 0, offset));
            offset += plan.heap_len(heap);
        } else {
            let len = batch.payload(heap).len();
            assert_eq!(batch.fill(heap, &content(heap, 0, len)), len);
        }
    }
    udp.register(batch.region(), &mut []).unwrap();
    batch.stamp(plan.heaps(), FIRST_CNT, CNT_STEP)
}

/// A batch to be attached to a file, which holds all heaps in order, and then some.
fn attached(plan: &Arc<Plan>, placement: Placement) -> (Batch, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for heap in 0..plan.heaps() {
        file.write_all(&content(heap, 0, plan.heap_len(heap))).unwrap();
    }
    file.write_all(&content(u32::MAX, 0, 10_000)).unwrap();
    let source = Arc::new(Memory::file(file.path()).unwrap());
    let (_, mut batches) =
        Region::allocate(plan, Layout::Attached, 1, placement, vec![source]).unwrap();
    (batches.remove(0), file)
}

fn content(heap: u32, start: usize, len: usize) -> Vec<u8> {
    (start..start + len)
        .map(|at| (at ^ ((at >> 8) * 7)).wrapping_add(heap as usize * 41) as u8)
        .collect()
}

fn send(udp: &mut Udp, batch: &mut InFlight, packets: Range<u32>) -> Vec<Done> {
    let mut next = packets.start;
    while next < packets.end {
        next += udp.post(batch, next..packets.end).unwrap();
        if next < packets.end {
            wait_for(udp);
        }
    }
    // In whatever order the kernel is done with them.
    let mut done: Vec<Done> = Vec::new();
    while done.iter().map(|done| done.packets.len()).sum::<usize>() < packets.len() {
        wait_for(udp);
        udp.poll(&mut done).unwrap();
    }
    done.sort_by_key(|done| done.packets.start);
    let mut joined = Vec::new();
    done.into_iter().for_each(|done| done.join(&mut joined));
    joined
}

/// Without a limit: whatever is not announced would hang.
fn wait_for(udp: &mut Udp) {
    let mut wait = Wait::new();
    udp.prepare_wait(&mut wait).unwrap();
    wait.block(None, None).unwrap();
}

fn done(batch: &InFlight, packets: Range<u32>) -> Done {
    Done { slot: batch.slot(), packets, error: None }
}

#[expect(unsafe_code, reason = "there is no sender here, whose task this is")]
fn take_back(batch: InFlight) -> Batch {
    // SAFETY: the kernel has copied all that was posted.
    unsafe { batch.reclaim() }
}

/// One address of each family that there is.
fn loopbacks() -> Vec<SocketAddr> {
    let is_there = |address: &SocketAddr| match UdpSocket::bind(address) {
        Ok(_) => true,
        Err(error) => {
            skip("IPv6", &error.to_string());
            false
        }
    };
    [LOOPBACK_V4, LOOPBACK_V6].into_iter().filter(is_there).collect()
}

#[expect(clippy::print_stderr, reason = "for whoever reads the tests' output")]
fn skip(what: &str, reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no {what}: {reason}");
    eprintln!("skipped: a test that needs {what}: {reason}");
}

const LAYOUTS: [Layout; 3] = [Layout::Packed, Layout::Split, Layout::Attached];
const LOOPBACK_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LOOPBACK_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const FIRST_CNT: u64 = 1000;
const CNT_STEP: u64 = 3;
