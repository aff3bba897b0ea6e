//! The verifying receiver on loopback.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use doorbell::receive::{Expectation, Progress, Received, Receiver, TIMESTAMP_ITEM};
use doorbell::wire::{Flavour, ItemPointer, PacketHeader, StreamControl, item};
use nix::sys::socket::{setsockopt, sockopt};

const FLAVOUR: Flavour = Flavour::SPEAD_64_48;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Heaps of which every byte is the heap's index.
fn pattern(heap_len: usize) -> Expectation {
    let matches = |index: u64, payload: &[u8]| payload.iter().all(|byte| *byte == index as u8);
    Expectation {
        verifier: Some(Box::new(matches)),
        ..Expectation::new(FLAVOUR, vec![(0x3300, heap_len)])
    }
}

/// A packet with these item pointers.
fn packet(
    cnt: u64,
    pointers: &[ItemPointer],
    heap_len: usize,
    offset: usize,
    data: &[u8],
) -> Vec<u8> {
    let header = PacketHeader {
        flavour: FLAVOUR,
        item_pointers: pointers.len() as u16,
        heap_cnt: cnt,
        heap_length: heap_len as u64,
        payload_offset: offset as u64,
        payload_length: data.len() as u64,
    };
    let mut packet = vec![0; doorbell::wire::HEADER_LEN];
    header.emit(&mut packet);
    pointers.iter().for_each(|pointer| packet.extend(pointer.to_be_bytes()));
    packet.extend_from_slice(data);
    packet
}

/// The packets of heap `index` of the default stream, of 1000 payload bytes each.
fn heap(index: u64, heap_len: usize) -> Vec<Vec<u8>> {
    let pointers = [
        ItemPointer::immediate(FLAVOUR, TIMESTAMP_ITEM, index * heap_len as u64),
        ItemPointer::addressed(FLAVOUR, 0x3300, 0),
    ];
    let bytes = vec![index as u8; heap_len];
    let chunks = bytes.chunks(1000).zip((0..).step_by(1000));
    chunks
        .map(|(data, offset)| {
            let pointers = if offset == 0 { &pointers[..] } else { &[] };
            packet(index + 1, pointers, heap_len, offset, data)
        })
        .collect()
}

fn stop() -> Vec<u8> {
    let stop = ItemPointer::immediate(FLAVOUR, item::STREAM_CTRL, StreamControl::Stop as u64);
    packet(0, &[stop, ItemPointer::addressed(FLAVOUR, item::NULL, 0)], 1, 0, &[0])
}

/// What a receiver says of datagrams that fit its buffer all at once.
fn receive(
    to: SocketAddr,
    expectation: Expectation,
    datagrams: impl IntoIterator<Item = Vec<u8>>,
) -> Received {
    let receiver = Receiver::bind(to, 4 << 20).unwrap();
    let socket = UdpSocket::bind((receiver.local_addr().ip(), 0)).unwrap();
    for datagram in datagrams {
        socket.send_to(&datagram, receiver.local_addr()).unwrap();
    }
    let progress = Progress::default();
    progress.stop();
    receiver.run(expectation, &progress)
}

#[test]
fn a_stream_arrives_intact() {
    for to in [LOOPBACK, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let datagrams = (0..20).flat_map(|index| heap(index, 4500)).chain([stop()]);
        // Not the time limit, but the stop heap ends it.
        let idle = Duration::from_secs(3600);
        let expectation = Expectation { heaps: Some(20), idle, ..pattern(4500) };
        let received = receive(to, expectation, datagrams);
        assert!(received.is_intact(), "{received:?}");
        assert_eq!((received.heaps, received.packets), (20, 101));
        assert_eq!(received.payload_bytes, 20 * 4500 + 1);
    }
}

#[test]
fn what_is_missing_or_wrong_is_counted() {
    let mut heaps: Vec<_> = (0..20).map(|index| heap(index, 4500)).collect();
    heaps[3].remove(2);
    *heaps[5][4].last_mut().unwrap() += 1;
    heaps[7] = heap(8, 4500);
    heaps[9] = heap(700, 4500);
    heaps.push(vec![b"not SPEAD".to_vec(), Vec::new()]);
    let expectation =
        Expectation { heaps: Some(20), idle: Duration::from_millis(1), ..pattern(4500) };
    // No stop heap: it ends when nothing arrives any more.
    let received = receive(LOOPBACK, expectation, heaps.concat());
    assert!(!received.is_intact());
    assert_eq!((received.heaps, received.incomplete), (17, 3));
    // One has a wrong byte, and one is none of the stream's.
    assert_eq!(received.mismatched, 2);
    // Heap 8 came twice.
    assert_eq!((received.ignored, received.not_spead), (5, 2));
}

/// The window is what fits while nobody reads, whether packets are sent one by one or, by
/// segmentation offload, many at once.
#[test]
fn nothing_within_the_window_is_dropped() {
    for (len, together) in [
        (1, 1),
        (56, 64),
        (500, 64),
        (900, 1),
        (1472, 1),
        (1472, 44),
        (2100, 1),
        (4000, 1),
        (4000, 16),
        (8240, 1),
        (8240, 7),
        (8972, 7),
        (9000, 1),
        (15_900, 4),
        (16_400, 1),
        (17_000, 3),
        (33_000, 1),
        (65_504, 1),
    ] {
        let receiver = Receiver::bind(LOOPBACK, 4 << 20).unwrap();
        let window = receiver.window(len);
        assert!(window as usize * len > receiver.buffer() / 8 || len < 500, "{len}: {window}");
        let socket = sender(&receiver, len, together);
        let mut sent = 0;
        while sent + together as u64 <= window {
            socket.send(&vec![0; len * together]).unwrap();
            sent += together as u64;
        }
        let progress = Progress::default();
        progress.stop();
        let expectation = Expectation { idle: Duration::from_millis(1), ..pattern(1) };
        let received = receiver.run(expectation, &progress);
        assert_eq!(received.not_spead, sent, "{together} packets of {len} bytes at once");
        assert_eq!(progress.packets(), sent);
    }
}

/// Nor is anything while the receiver reads, which gives memory back late.
#[test]
fn nothing_within_the_window_is_dropped_as_it_moves() {
    for (len, together) in [(100, 1), (1472, 1), (1472, 44), (8240, 7), (65_504, 1)] {
        let receiver = Receiver::bind(LOOPBACK, 400_000).unwrap();
        let window = receiver.window(len).max(together as u64);
        let socket = sender(&receiver, len, together);
        let progress = Arc::new(Progress::default());
        let expectation = pattern(1);
        let thread = thread::spawn({
            let progress = progress.clone();
            move || receiver.run(expectation, &progress)
        });
        let datagram = vec![0; len * together];
        let mut sent = 0;
        while sent < 20_000 {
            // A packet that was dropped never arrives: then the count is wrong, and this must end.
            let patience = Instant::now() + Duration::from_secs(10);
            while sent + together as u64 > progress.packets() + window && Instant::now() < patience
            {
                thread::yield_now();
            }
            socket.send(&datagram).unwrap();
            sent += together as u64;
        }
        progress.stop();
        let received = thread.join().unwrap();
        assert_eq!(received.not_spead, sent, "{together} packets of {len} bytes at once");
    }
}

/// A socket that cuts what it sends into packets of `len` bytes.
fn sender(receiver: &Receiver, len: usize, together: usize) -> UdpSocket {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.connect(receiver.local_addr()).unwrap();
    if together > 1 {
        setsockopt(&socket.as_fd(), sockopt::UdpGsoSegment, &(len as i32)).unwrap();
    }
    socket
}

#[test]
fn an_address_that_is_taken_is_named() {
    let receiver = Receiver::bind(LOOPBACK, 1 << 20).unwrap();
    assert!(receiver.buffer() > 0);
    let error = Receiver::bind(receiver.local_addr(), 1 << 20).unwrap_err().to_string();
    assert!(error.contains(&receiver.local_addr().to_string()), "{error}");
}
