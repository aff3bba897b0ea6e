//! Messages that the kernel reads late.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::namespace::in_namespace;
use super::*;
use crate::sender::Sender;

#[test]
fn loopback_copies_so_auto_does_without() {
    for address in loopbacks() {
        for layout in LAYOUTS {
            let receiver = Receiver::bind(address);
            let mut udp = open_with(&[receiver.address()], ZeroCopy::Auto);
            let plan = plan(&[(8192, 64)], 1472);
            let packets = plan.packets().len() as u32;
            let mut batch = batch(&plan, layout, &mut udp);
            for _ in 0..3 {
                assert_eq!(send(&mut udp, &mut batch, 0..packets), [done(&batch, 0..packets)]);
                receiver.expect(&batch, 0..packets);
            }
            // One message to find out; and none where that would not pay off.
            let asked = u64::from(layout == Layout::Packed);
            assert_eq!((udp.counters().uncopied, udp.counters().copied), (0, asked));
        }
    }
}

#[test]
fn all_layouts_go_without_copying() {
    in_namespace(&SINK, || {
        for destinations in [vec!["192.0.2.1:1"], vec!["192.0.2.1:1", "192.0.2.3:1"]] {
            let destinations: Vec<_> = destinations.iter().map(|it| it.parse().unwrap()).collect();
            for (layout, zero_copy) in [
                (Layout::Packed, ZeroCopy::Auto),
                (Layout::Packed, ZeroCopy::On),
                (Layout::Split, ZeroCopy::On),
                (Layout::Attached, ZeroCopy::On),
            ] {
                let mut udp = open_with(&destinations, zero_copy);
                for plan in [plan(&[(8192, 64)], 1472), plan(&[(100_000, 8), (100, 3)], 8972)] {
                    let before = udp.counters();
                    let mut batch = batch(&plan, layout, &mut udp);
                    let packets = plan.packets().len() as u32;
                    for _ in 0..2 {
                        let sent = send(&mut udp, &mut batch, 0..packets);
                        assert_eq!(sent, [done(&batch, 0..packets)], "{layout:?}, {zero_copy:?}");
                    }
                    let after = udp.counters();
                    assert_eq!(after.packets - before.packets, 2 * u64::from(packets));
                    let messages = after.messages - before.messages;
                    let uncopied = after.uncopied - before.uncopied;
                    assert!(
                        match zero_copy {
                            ZeroCopy::On => uncopied == messages,
                            // The first post finds out.
                            _ => uncopied > messages / 2,
                        },
                        "{layout:?}, {zero_copy:?}: {uncopied} of {messages}"
                    );
                    assert_eq!(after.copied, 0);
                    assert_eq!(after.segmentation_refused, 0, "it does not fit an skb");
                }
            }
        }
    });
}

/// The kernel counts messages that the device's queue had no room for, and not those for which it had
/// no memory; what it says must still be taken for what it means.
#[test]
fn refused_messages_do_not_confuse_the_count() {
    let slow = [
        "ip link set lo up",
        "sysctl -qw net.core.optmem_max=8192",
        "tc qdisc add dev lo root tbf rate 2gbit burst 128kb limit 300kb",
    ];
    in_namespace(&slow, || {
        for address in loopbacks() {
            let receiver = Receiver::bind(address);
            let mut udp = open_with(&[receiver.address()], ZeroCopy::On);
            let plan = plan(&[(8192, 128)], 1472);
            let packets = plan.packets().len() as u32;
            let mut batch = batch(&plan, Layout::Packed, &mut udp);
            for _ in 0..20 {
                assert_eq!(send(&mut udp, &mut batch, 0..packets), [done(&batch, 0..packets)]);
                receiver.expect(&batch, 0..packets);
            }
            assert!(udp.counters().waits > 0, "{:?}", udp.counters());
            assert!(udp.counters().copied > 0, "{:?}", udp.counters());
            assert_eq!(udp.outlet.socket.zero_copy.outstanding(), 0);
        }
    });
}

#[test]
fn what_may_not_be_pinned_is_copied() {
    in_namespace(&SINK, || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        setrlimit(Resource::RLIMIT_MEMLOCK, 0, hard).unwrap();
        give_up_ipc_lock();
        let mut udp = open_with(&["192.0.2.1:1".parse().unwrap()], ZeroCopy::On);
        let plan = plan(&[(8192, 64)], 1472);
        let packets = plan.packets().len() as u32;
        let mut batch = batch(&plan, Layout::Packed, &mut udp);
        for _ in 0..3 {
            assert_eq!(send(&mut udp, &mut batch, 0..packets), [done(&batch, 0..packets)]);
        }
        setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).unwrap();
        let counters = udp.counters();
        assert_eq!((counters.uncopied, counters.copied, counters.waits), (0, 0, 0));
        assert_eq!(counters.doorbells, 4, "it is not asked for again at once");
    });
}

/// Has this thread heed RLIMIT_MEMLOCK: capset(2).
fn give_up_ipc_lock() {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Effective, permitted and inheritable, for capabilities 0 to 31 and 32 to 63.
    let mut sets = [0_u32; 6];
    #[expect(unsafe_code, reason = "no crate in use has it")]
    // SAFETY: the header is two integers, and the sets are six.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, &header, &mut sets), 0);
        sets[0] &= !(1 << CAP_IPC_LOCK);
        assert_eq!(libc::syscall(libc::SYS_capset, &header, &sets), 0);
    }
}

/// The memory of a batch is written the moment it comes back. A queue on the way holds messages back, so
/// that the kernel reads them only then: nothing that was written arrives.
#[test]
fn nothing_that_is_written_after_completion_is_sent() {
    let packets = match std::env::var_os("DOORBELL_SOAK") {
        Some(_) => 10_000_000,
        None => 200_000,
    };
    in_namespace(&QUEUE, || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let udp = open_with(&[receiver.address()], ZeroCopy::On);
        let mut sender = Sender::new(Box::new(udp));
        let plan = plan(&[(1024, 512)], 1472);
        let mut idle = sender.allocate(&plan, Layout::Packed, 3, Vec::new()).unwrap();
        let received = AtomicU64::new(0);
        thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                for _ in 0..packets {
                    let bytes = receiver.receive();
                    let packet = Packet::parse(&bytes).unwrap();
                    let heap_cnt = packet.header().heap_cnt;
                    let filled = [heap_cnt as u8; 1024];
                    assert!(packet.payload() == filled, "heap {heap_cnt} was written over");
                    received.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut sent = 0;
            while sent < packets {
                if receiving.is_finished() {
                    break;
                }
                // No more than its buffer holds.
                if sent > received.load(Ordering::Relaxed) + 8192 {
                    thread::yield_now();
                    continue;
                }
                let mut batch = idle.pop().unwrap_or_else(|| {
                    let mut batch = sender.wait().unwrap().batch;
                    for heap in 0..batch.heaps() {
                        batch.fill(heap, &[0; 1024]);
                        batch.set_immediate(heap, 0x1600, u64::MAX >> 24).unwrap();
                    }
                    batch
                });
                let heaps = u64::from(batch.heaps()).min(packets - sent);
                for heap in 0..heaps {
                    batch.fill(heap as u32, &[(sender.next_cnt() + heap) as u8; 1024]);
                }
                sender.submit_first(batch, heaps as u32).unwrap();
                sent += heaps;
            }
            while sender.wait().is_some() {}
            receiving.join().unwrap();
        });
        let counters = sender.counters();
        assert!(counters.copied >= counters.messages * 9 / 10, "{counters:?}");
    });
}

/// Without that, the test above could not fail.
#[test]
fn what_is_written_before_completion_is_sent() {
    in_namespace(&SLOW_QUEUE, || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let mut udp = open_with(&[receiver.address()], ZeroCopy::On);
        let plan = plan(&[(1024, 512)], 1472);
        let mut batch = batch(&plan, Layout::Packed, &mut udp);
        assert_eq!(udp.post(&mut batch, 0..512), Ok(512));
        write_over(&batch);
        let expected = |packet| batch.packet(packet).to_vec();
        let late = (0..512).filter(|&packet| receiver.receive() == expected(packet)).count();
        assert!(late > 0, "no packet was read late");
    });
}

#[test]
fn nothing_is_read_once_the_backend_is_dropped() {
    in_namespace(&QUEUE, || {
        let receiver = Receiver::bind(LOOPBACK_V4);
        let mut udp = open_with(&[receiver.address()], ZeroCopy::On);
        let plan = plan(&[(1024, 512)], 1472);
        let mut batch = batch(&plan, Layout::Packed, &mut udp);
        assert_eq!(udp.post(&mut batch, 0..512), Ok(512));
        assert!(udp.outlet.socket.zero_copy.outstanding() > 0);
        drop(udp);
        write_over(&batch);
        for packet in 0..512 {
            let (mut sent, bytes) = (receiver.receive(), batch.packet(packet));
            let last = sent.last_mut().unwrap();
            *last = !*last;
            assert!(sent == bytes.to_vec(), "packet {packet} was read late");
        }
    });
}

/// Changes the last byte of each packet of a batch in flight.
fn write_over(batch: &InFlight) {
    for (packet, planned) in batch.region().plan().packets().iter().enumerate() {
        let (start, _) = batch.region().packet_addresses(0, packet as u32);
        let end = start.wrapping_add(planned.len() - 1).cast_mut();
        #[expect(unsafe_code, reason = "safe code cannot do that, which is the point")]
        // SAFETY: within the region, of which nothing borrows a byte.
        unsafe {
            end.write_volatile(!end.read());
        }
    }
}

/// A route into a device that frees what it is to transmit.
const SINK: [&str; 5] = [
    "ip link set lo up",
    "ip link add ifb0 type ifb",
    "ip link set ifb0 mtu 9000 arp off up",
    "ip address add 192.0.2.2/24 dev ifb0",
    "ip link set ifb0 up",
];
/// Loopback with a queue, from which the kernel copies messages when they leave it.
const QUEUE: [&str; 2] =
    ["ip link set lo up", "tc qdisc add dev lo root tbf rate 4gbit burst 128kb limit 100mb"];
/// So slow a queue that packets are still in it after whatever else the machine has to do.
const SLOW_QUEUE: [&str; 2] =
    ["ip link set lo up", "tc qdisc add dev lo root tbf rate 20mbit burst 128kb limit 100mb"];
const CAP_IPC_LOCK: u32 = 14;
