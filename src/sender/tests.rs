//! Waits that nothing but what is waited for ends: a wake-up that is lost would hang here.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::sync_channel;
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};
use proptest::prelude::*;

use super::admission::Arrivals;
use super::*;
use crate::backend::fault::{Fault, FaultInjector};
use crate::backend::pcap::{Pcap, PcapConfig};
use crate::backend::tcp::{Tcp, TcpConfig};
use crate::backend::udp::{Udp, UdpConfig};
use crate::plan::{HeapSpec, PacketSize};
use crate::region::InFlight;
use crate::wire::Flavour;

proptest! {
    #[test]
    fn every_schedule_of_faults_completes(
        faults in prop::collection::vec(fault(), 0..24),
        batches in 1_u32..4,
        max_in_flight in prop_oneof![1_u32..10, Just(u32::MAX)],
        rounds in 1_usize..6,
        pause in prop::option::of(1_u32..2000),
        portions in prop::collection::vec(prop::collection::vec(0_u32..6, 0..24), 0..3),
    ) {
        let pcap = Pcap::new(Box::new(std::io::sink()), &PcapConfig::to(vec![DESTINATION])).unwrap();
        let faulty = FaultInjector::new(Box::new(pcap), faults.into_iter());
        let mut sender = Sender::new(Box::new(faulty.with_max_in_flight(max_in_flight)));
        sender.pace(pause.map(|burst| Rate::new(2_000_000_000, burst)));
        let admitted: Vec<_> = portions.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        for (portions, admitted) in portions.into_iter().zip(&admitted) {
            let portions = portions.into_iter();
            sender.admit_by(Box::new(Portions { portions, admitted: admitted.clone() }));
        }
        let waker = EventFd::new().unwrap();
        let mut idle = sender.allocate(&plan(), Layout::Packed, batches, Vec::new()).unwrap();
        let mut heaps = 0;
        for _ in 0..rounds {
            for batch in idle.drain(..) {
                if let Err(rejected) = sender.submit(batch) {
                    prop_assert!(matches!(rejected.reason, Reason::Failed(SendError::Injected)));
                    heaps += rejected.batch.heaps();
                }
            }
            while sender.in_flight() > 0 {
                let completion = sender.poll();
                for admitted in &admitted {
                    prop_assert!(sender.posted() <= admitted.load(Relaxed));
                }
                match completion {
                    Some(completion) => {
                        heaps += completion.heaps;
                        idle.push(completion.batch);
                    }
                    // Nobody writes to the waker.
                    None => sender.idle_with(Some(waker.as_fd()), None),
                }
            }
        }
        prop_assert!(heaps >= HEAPS * batches);
        let is_whole = |admitted: &Arc<AtomicU64>| admitted.load(Relaxed) == sender.posted();
        prop_assert!(sender.failure().is_some() || admitted.iter().all(is_whole));
    }
}

/// Admits the next portion at each look, then all packets.
struct Portions {
    portions: std::vec::IntoIter<u32>,
    admitted: Arc<AtomicU64>,
}

impl Admission for Portions {
    fn admit(&mut self, batch: &InFlight, packets: Range<u32>) -> u32 {
        assert!(
            !packets.is_empty() && packets.end as usize <= batch.region().plan().packets().len()
        );
        let admitted = self.portions.next().unwrap_or(u32::MAX).min(packets.len() as u32);
        self.admitted.fetch_add(admitted.into(), Relaxed);
        admitted
    }

    fn prepare_wait(&mut self, wait: &mut Wait) {
        wait.at_most(Duration::from_micros(1));
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        4 => (0_u32..6).prop_map(Fault::Short),
        2 => (0_u32..6).prop_map(Fault::Lose),
        3 => (0_u32..5).prop_map(Fault::Hold),
        1 => Just(Fault::Break),
    ]
}

#[test]
fn a_waker_ends_the_pause_of_a_rate() {
    let (receiver, mut sender) = to_nobody();
    let mut batch = sender.allocate(&plan(), Layout::Packed, 1, Vec::new()).unwrap();
    // A burst a year.
    sender.pace(Some(Rate::new(1, 1)));
    sender.submit(batch.remove(0)).unwrap();
    assert!(sender.poll().is_none() && sender.pause().is_some());
    assert_is_woken(&mut sender);
    drop(receiver);
}

#[test]
fn a_pause_does_not_keep_back_what_is_complete() {
    let (_receiver, mut sender) = to_nobody();
    let batches = sender.allocate(&plan(), Layout::Packed, 2, Vec::new()).unwrap();
    let waker = EventFd::new().unwrap();
    // The first goes at once, and the second a year later.
    sender.pace(Some(Rate::new(1, u32::MAX)));
    for batch in batches {
        sender.submit(batch).unwrap();
    }
    sender.idle_with(Some(waker.as_fd()), None);
    assert!(sender.poll().is_some());
    assert!(sender.poll().is_none() && sender.pause().is_some());
}

#[test]
fn what_has_not_arrived_holds_back_what_follows() {
    let (_receiver, mut sender) = to_nobody();
    let arrived = Arc::new(AtomicU64::new(0));
    let counted = arrived.clone();
    sender.admit_by(Box::new(Arrivals::new(5, move || counted.load(Relaxed))));
    let batch = sender.allocate(&plan(), Layout::Packed, 1, Vec::new()).unwrap().remove(0);
    let packets = batch.region().plan().packets().len() as u64;
    sender.submit(batch).unwrap();
    for (arrivals, posted) in [(0, 5), (0, 5), (2, 7), (packets - 5, packets)] {
        arrived.store(arrivals, Relaxed);
        let completion = sender.poll();
        assert_eq!(sender.posted(), posted);
        sender.idle(Duration::ZERO);
        assert!(completion.is_none());
    }
    assert!(sender.poll().is_some());
}

#[test]
fn a_waker_is_waited_for_where_nothing_is_in_flight() {
    let (_receiver, mut sender) = to_nobody();
    assert_is_woken(&mut sender);
    // And without one, there is nothing to wait for.
    sender.idle_with(None, None);
}

#[test]
fn what_is_complete_is_not_waited_for() {
    let (_receiver, mut sender) = to_nobody();
    let batches = sender.allocate(&plan(), Layout::Packed, 2, Vec::new()).unwrap();
    let waker = EventFd::new().unwrap();
    for batch in batches {
        sender.submit(batch).unwrap();
    }
    assert!(sender.poll().is_some());
    sender.idle_with(Some(waker.as_fd()), None);
    assert!(sender.poll().is_some());
}

#[test]
fn a_lost_connection_is_made_anew_without_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let config = TcpConfig { reconnect: Duration::from_secs(3600), ..TcpConfig::new(vec![to]) };
    let mut sender = Sender::new(Box::new(Tcp::open(&config).unwrap()));
    let mut batch = sender.allocate(&plan(), Layout::Packed, 1, Vec::new()).unwrap().remove(0);
    drop(listener.accept().unwrap());
    // Nobody listens for a while: first attempts are refused.
    drop(listener);
    let waker = EventFd::new().unwrap();
    let (mut refused, mut reader) = (0, None);
    while sender.counters().reconnects == 0 {
        sender.submit(batch).unwrap();
        batch = loop {
            if let Some(completion) = sender.poll() {
                break completion.batch;
            }
            sender.idle_with(Some(waker.as_fd()), None);
            refused += 1;
            if refused == 3 {
                let listener = TcpListener::bind(to).unwrap();
                reader = Some(thread::spawn(move || {
                    io::copy(&mut listener.accept().unwrap().0, &mut io::sink()).unwrap()
                }));
            }
        };
    }
    drop(sender);
    assert!(reader.expect("attempts were refused").join().unwrap() > 0);
}

/// Waits without a limit, and is woken by another thread, and not before.
fn assert_is_woken(sender: &mut Sender) {
    let waker = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    let (begins, begun) = sync_channel(0);
    thread::scope(|scope| {
        let waker = &waker;
        scope.spawn(move || {
            begun.recv().unwrap();
            thread::sleep(Duration::from_millis(5));
            waker.write(3).unwrap();
        });
        begins.send(()).unwrap();
        sender.idle_with(Some(waker.as_fd()), None);
        assert_eq!(waker.read(), Ok(3));
    });
}

/// A sender over UDP, and the socket that it sends to.
fn to_nobody() -> (UdpSocket, Sender) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = UdpConfig::new(vec![receiver.local_addr().unwrap()]);
    (receiver, Sender::new(Box::new(Udp::open(&config).unwrap())))
}

fn plan() -> Arc<Plan> {
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 700);
    let size = PacketSize::Exact(256);
    Arc::new(
        Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, HEAPS as usize).build().unwrap(),
    )
}

const DESTINATION: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 7148);
const HEAPS: u32 = 4;
