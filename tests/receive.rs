//! Receiving and verifying on loopback.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use doorbell::receive::{
    KnownStream, Listener, TIMESTAMP_ITEM, Tally, Verification, Window, WindowConfig,
};
use doorbell::wire::{Flavour, ItemPointer, PacketHeader, StreamControl, item};
use nix::sys::socket::{setsockopt, sockopt};

const FLAVOUR: Flavour = Flavour::SPEAD_64_48;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A receiver of heaps of `heap_len` bytes, of which every byte is the heap's index.
struct Receiver {
    listener: Listener,
    window: Window,
    mismatched: Arc<AtomicU64>,
}

impl Receiver {
    fn bind(to: SocketAddr, buffer: usize, heap_len: usize, heaps: Option<u64>) -> Self {
        let matches = |index: u64, payload: &[u8]| payload.iter().all(|byte| *byte == index as u8);
        let items = vec![(0x3300, heap_len)];
        let stream = KnownStream { items, first_cnt: 1, cnt_step: 1, heaps };
        let mut verification = Verification::known(stream, Some(Box::new(matches)));
        let mismatched = Arc::new(AtomicU64::new(0));
        let counter = mismatched.clone();
        let config = WindowConfig { heaps: 64, max_heap_len: 1 << 20, substreams: 1 };
        let window = Window::new(config).consumed_by(move |heap| {
            let wrong = heap.is_data() && !verification.matches(heap);
            counter.fetch_add(u64::from(wrong), Ordering::Relaxed);
        });
        Self { listener: Listener::bind(&[to], None, buffer).unwrap(), window, mismatched }
    }

    fn local_addr(&self) -> SocketAddr {
        self.listener.local_addrs().next().unwrap()
    }

    /// Receives until the stop heap has come, or nothing comes for so long.
    fn run(mut self, idle: Duration, packets: &AtomicU64) -> (Tally, u64) {
        while !self.window.is_stopped() {
            match self.listener.receive(&mut self.window, idle).unwrap() {
                0 => break,
                some => packets.fetch_add(some as u64, Ordering::Relaxed),
            };
        }
        self.window.finish();
        (self.window.tally(), self.mismatched.load(Ordering::Relaxed))
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

/// What a receiver says of datagrams that fit its buffer all at once, and how many heaps were not as they
/// should be.
fn receive(
    to: SocketAddr,
    idle: Duration,
    datagrams: impl IntoIterator<Item = Vec<u8>>,
) -> (Tally, u64) {
    let receiver = Receiver::bind(to, 4 << 20, 4500, Some(20));
    let socket = UdpSocket::bind((receiver.local_addr().ip(), 0)).unwrap();
    for datagram in datagrams {
        socket.send_to(&datagram, receiver.local_addr()).unwrap();
    }
    receiver.run(idle, &AtomicU64::new(0))
}

#[test]
fn a_stream_arrives_intact() {
    for to in [LOOPBACK, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let datagrams = (0..20).flat_map(|index| heap(index, 4500)).chain([stop()]);
        // Not the time limit, but the stop heap ends it.
        let (tally, mismatched) = receive(to, Duration::from_secs(3600), datagrams);
        assert_eq!((tally.heaps, tally.incomplete, tally.missing, mismatched), (20, 0, 0, 0));
        assert_eq!((tally.packets, tally.payload_bytes), (101, 20 * 4500 + 1));
        assert!(tally.substreams[0].stopped);
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
    // No stop heap: it ends when nothing arrives any more.
    let (tally, mismatched) = receive(LOOPBACK, Duration::from_millis(100), heaps.concat());
    // Heap 700 is none of the stream's, and makes none missing.
    assert_eq!((tally.heaps, tally.incomplete, tally.missing), (18, 1, 2));
    // One has a wrong byte.
    assert_eq!(mismatched, 2);
    // Heap 8 came twice.
    assert_eq!((tally.ignored, tally.not_spead), (5, 2));
    assert!(!tally.substreams[0].stopped);
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
        let receiver = Receiver::bind(LOOPBACK, 4 << 20, 1, None);
        let window = receiver.listener.room(len);
        let buffer = receiver.listener.buffer();
        assert!(window as usize * len > buffer / 8 || len < 500, "{len}: {window}");
        let socket = sender(&receiver, len, together);
        let mut sent = 0;
        while sent + together as u64 <= window {
            socket.send(&vec![0; len * together]).unwrap();
            sent += together as u64;
        }
        let packets = AtomicU64::new(0);
        let (tally, _) = receiver.run(Duration::from_millis(1), &packets);
        assert_eq!(tally.not_spead, sent, "{together} packets of {len} bytes at once");
        assert_eq!(packets.into_inner(), sent);
    }
}

/// Nor is anything while the receiver reads, which gives memory back late.
#[test]
fn nothing_within_the_window_is_dropped_as_it_moves() {
    for (len, together) in [(100, 1), (1472, 1), (1472, 44), (8240, 7), (65_504, 1)] {
        let receiver = Receiver::bind(LOOPBACK, 400_000, 1, None);
        let window = receiver.listener.room(len).max(together as u64);
        let socket = sender(&receiver, len, together);
        let packets = Arc::new(AtomicU64::new(0));
        let thread = thread::spawn({
            let packets = packets.clone();
            move || receiver.run(Duration::from_millis(500), &packets)
        });
        let datagram = vec![0; len * together];
        let mut sent = 0;
        while sent < 20_000 {
            // A packet that was dropped never arrives: then the count is wrong, and this must end.
            let patience = Instant::now() + Duration::from_secs(10);
            let arrived = || packets.load(Ordering::Relaxed);
            while sent + together as u64 > arrived() + window && Instant::now() < patience {
                thread::yield_now();
            }
            socket.send(&datagram).unwrap();
            sent += together as u64;
        }
        let (tally, _) = thread.join().unwrap();
        assert_eq!(tally.not_spead, sent, "{together} packets of {len} bytes at once");
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
    let listener = Listener::bind(&[LOOPBACK], None, 1 << 20).unwrap();
    assert!(listener.buffer() > 0);
    let taken = listener.local_addrs().next().unwrap();
    let error = Listener::bind(&[taken], None, 1 << 20).unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
}
