//! TCP to a receiver that reads as little, as late and as long as it likes: the stream is the packets,
//! byte for byte, wherever calls ended within them.

mod capture;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use doorbell::backend::Backend;
use doorbell::backend::tcp::{Tcp, TcpConfig};
use doorbell::backend::udp::ZeroCopy;
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan};
use doorbell::region::Layout;
use doorbell::sender::Sender;
use doorbell::wire::{Flavour, Packet};
use proptest::prelude::*;
use proptest::sample::select;

use self::capture::Capture;

#[derive(Clone, Debug)]
struct Case {
    sizes: Vec<usize>,
    layout: Layout,
    order: Order,
    zero_copy: ZeroCopy,
    /// Heaps of each submission.
    submissions: Vec<u32>,
    /// Bytes that the kernel may hold, at either end.
    buffer: usize,
    /// What the receiver reads at a time, over and over.
    reads: Vec<usize>,
    /// After this many bytes it hangs up.
    patience: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(prop_oneof![1_usize..200, 1_usize..40_000], 1..6),
        select(vec![Layout::Packed, Layout::Split]),
        select(vec![Order::Serial, Order::RoundRobin]),
        select(vec![ZeroCopy::Off, ZeroCopy::On]),
        prop::collection::vec(1_u32..6, 1..6),
        select(vec![1_usize << 12, 1 << 14, 1 << 17]),
        prop::collection::vec(prop_oneof![1_usize..100, 1_usize..60_000], 1..5),
        prop_oneof![3 => Just(usize::MAX), 1 => 0_usize..300_000],
    )
        .prop_map(|(sizes, layout, order, zero_copy, submissions, buffer, reads, patience)| {
            Case {
                sizes,
                layout,
                order,
                // Where a header is a fragment of its own, tiny buffers stall (docs/tcp.md).
                zero_copy: if layout == Layout::Packed { zero_copy } else { ZeroCopy::Off },
                submissions,
                buffer,
                reads,
                patience,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn wherever_a_call_ends_the_stream_goes_on_there(case in cases()) {
        let (to, receiver) = receive(&case);
        let config = TcpConfig {
            send_buffer: Some(case.buffer),
            zero_copy: case.zero_copy,
            ..TcpConfig::new(vec![to])
        };
        let (submitted, sent, failed) = send(&case, Box::new(Tcp::open(&config).unwrap()));
        prop_assert_eq!(sent + failed, submitted);

        let capture = Capture::default();
        let (all, intact, _) = send(&case, capture.backend(&["192.0.2.7:7148"]));
        prop_assert_eq!(all, intact);
        let expected = capture.packets().concat();
        let received = receiver.join().unwrap();
        if case.patience > expected.len() {
            prop_assert_eq!((sent, failed), (all, 0));
            prop_assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
        } else {
            // Of a peer that hangs up, nothing is known but what it had read.
            prop_assert!(expected.starts_with(&received), "{} bytes are others", received.len());
        }
    }
}

/// The first peer hangs up while heaps are under way, of which the rest is of no use to the second.
#[test]
fn a_new_connection_starts_with_a_heap_that_was_not_begun() {
    // More than the kernel holds, at both ends, of what is not read.
    const HEAP: usize = 1 << 20;
    const BUFFER: usize = 1 << 14;
    const PACKET: usize = 8972;
    for layout in [Layout::Packed, Layout::Split] {
        for (order, begun) in [(Order::Serial, 1_u64), (Order::RoundRobin, 2)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            socket2::SockRef::from(&listener).set_recv_buffer_size(BUFFER).unwrap();
            let config = TcpConfig {
                send_buffer: Some(BUFFER),
                reconnect: Duration::from_secs(60),
                ..TcpConfig::new(vec![listener.local_addr().unwrap()])
            };
            let receiver = thread::spawn(move || {
                let (mut first, _) = listener.accept().unwrap();
                // Of each heap of a batch, if they take turns.
                first.read_exact(&mut [0; 4 * PACKET]).unwrap();
                drop(first);
                let (mut second, _) = listener.accept().unwrap();
                let mut received = Vec::new();
                second.read_to_end(&mut received).unwrap();
                received
            });
            let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(PACKET))
                .heaps(&HeapSpec::new().payload(0x3300, HEAP), 2)
                .order(order);
            let plan = Arc::new(plan.build().unwrap());
            let send = |backend: Box<dyn Backend>| {
                let mut sender = Sender::new(backend);
                for mut batch in sender.allocate(&plan, layout, 3, Vec::new()).unwrap() {
                    for heap in 0..2 {
                        batch.fill(heap, &[1 + heap as u8; HEAP]);
                    }
                    sender.submit(batch).unwrap();
                }
                sender.close(Duration::from_secs(60))
            };
            let completions = send(Box::new(Tcp::open(&config).unwrap()));
            let failures = completions.iter().flat_map(|completion| &completion.failures);
            let failed: Vec<u64> = failures.map(|failure| failure.cnt).collect();
            assert_eq!(failed, (1..=begun).collect::<Vec<_>>(), "{layout:?}, {order:?}");

            let capture = Capture::default();
            send(capture.backend(&["192.0.2.7:7148"]));
            let expected: Vec<u8> = capture
                .packets()
                .into_iter()
                .filter(|packet| Packet::parse(packet).unwrap().header().heap_cnt > begun)
                .flatten()
                .collect();
            let received = receiver.join().unwrap();
            assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
        }
    }
}

/// Heaps submitted, sent and failed.
fn send(case: &Case, backend: Box<dyn Backend>) -> (u64, u64, u64) {
    let mut sender = Sender::new(backend);
    let mut plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472)).order(case.order);
    for &size in &case.sizes {
        plan = plan.heaps(&HeapSpec::new().payload(0x3300, size), 1);
    }
    let plan = Arc::new(plan.build().unwrap());
    let mut idle = sender.allocate(&plan, case.layout, 2, Vec::new()).unwrap();
    let (mut submitted, mut sent, mut failed) = (0, 0, 0);
    for (round, &heaps) in case.submissions.iter().enumerate() {
        if idle.is_empty() {
            let completion = sender.wait().unwrap();
            sent += u64::from(completion.sent());
            failed += completion.failures.len() as u64;
            idle.push(completion.batch);
        }
        let mut batch = idle.pop().unwrap();
        let heaps = heaps.min(batch.heaps());
        for heap in 0..heaps {
            let bytes = 0..case.sizes[heap as usize];
            batch.fill(heap, &bytes.map(|at| (at * 7 + round) as u8).collect::<Vec<_>>());
        }
        match sender.submit_first(batch, heaps) {
            Ok(()) => submitted += u64::from(heaps),
            Err(rejected) => idle.push(*rejected.batch),
        }
    }
    for completion in sender.close(Duration::from_secs(60)) {
        sent += u64::from(completion.sent());
        failed += completion.failures.len() as u64;
    }
    (submitted, sent, failed)
}

/// Reads as the case says, and gives back what came.
fn receive(case: &Case) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket2::SockRef::from(&listener);
    // Connections inherit it, tcp(7).
    socket.set_recv_buffer_size(case.buffer).unwrap();
    let to = listener.local_addr().unwrap();
    let (reads, patience) = (case.reads.clone(), case.patience);
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        for (turn, read) in reads.into_iter().cycle().enumerate() {
            let mut room = vec![0; read.min(patience - received.len())];
            match stream.read(&mut room) {
                Ok(some @ 1..) => received.extend_from_slice(&room[..some]),
                // All of it, or the patience has run out.
                Ok(0) | Err(_) => break,
            }
            if turn % 64 == 0 {
                thread::yield_now();
            }
        }
        received
    });
    (to, receiver)
}
