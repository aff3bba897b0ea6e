//! How streams end: by a stop or an abort, by a failure, by being dropped.

mod streams;

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use doorbell::backend::fault::{Fault, FaultInjector};
use doorbell::backend::{Backend, Caps, Counters, Done, OpenError, SendError, wait::Wait};
use doorbell::pacer::Rate;
use doorbell::region::{Arrangement, Batch, InFlight, Memory, Region};
use doorbell::settings::Settings;
use doorbell::stream::{Broken, BrokenReason, Heap, Stream, StreamPlan};
use doorbell::wire::{StreamControl, item};

use self::streams::{Arrival, PATIENCE, arrival, data, heap, receiver, submit, wait_until};

#[test]
fn a_stop_ends_whoever_waits() {
    let more = [("rate", "2kb/s"), ("burst", "1"), ("batch_heaps", "1")];
    let (_receiver, settings) = receiver(&more);
    let mut stream = Stream::open(settings, heap()).unwrap();
    let stop = stream.stop_handle();
    while stream.submitted() < 4 {
        submit(&mut stream);
    }
    let (ended, has_ended) = channel();
    let waiting = thread::spawn(move || {
        // All batches are in flight, for seconds.
        assert!(stream.idle().is_none() && stream.idle().is_none());
        ended.send(()).unwrap();
        stream
    });
    thread::sleep(Duration::from_millis(50));
    stop.raise();
    has_ended.recv_timeout(PATIENCE).expect("the wait ends");
    let stream = waiting.join().unwrap();
    assert!(stream.is_ended() && stop.is_raised());
    let report = stream.close().unwrap();
    assert_eq!((report.heaps, report.heaps_failed), (4, 0), "what was submitted goes on");
}

#[test]
fn a_stop_and_a_drop_end_the_wait_for_a_receiver_that_reads_nothing() {
    let opened = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_recv_buffer_size(1 << 14).unwrap();
        let mut settings = Settings::to(&listener.local_addr().unwrap().to_string()).unwrap();
        for (name, value) in [("backend", "tcp"), ("batch_heaps", "1"), ("zerocopy", "off")] {
            settings.set(name, value).unwrap();
        }
        // More than the kernel holds at both ends.
        let heap = Heap::new().array("samples", 0x3300, "i1", [16 << 20]);
        let mut stream = Stream::open(settings, heap).unwrap();
        let batch = stream.idle().unwrap();
        stream.submit(batch, 1).unwrap();
        (listener, stream)
    };
    let (_listener, stream) = opened();
    let (stop, (ended, has_ended)) = (stream.stop_handle(), channel());
    let closing = thread::spawn(move || ended.send(stream.close()).unwrap());
    stop.raise();
    let (_another, dropped) = opened();
    // Nobody needs to stop what is dropped.
    drop(dropped);
    let report = has_ended.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!((report.heaps, report.heaps_failed), (1, 1));
    closing.join().unwrap();
}

/// What a rate of a packet every hundred seconds holds back is given up; the stop heap is not.
#[test]
fn an_abort_gives_up_what_is_not_on_the_wire() {
    let (receiver, settings) = receiver(&[("rate", "10b/s"), ("burst", "100"), ("heaps", "80")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    assert!(submit(&mut stream) && submit(&mut stream));
    assert_eq!(arrival(&receiver), data(0, 1, true));
    let stop = stream.stop_handle();
    stop.raise();
    let patience = thread::spawn(move || {
        // While the stream is being closed, or before: either way it ends.
        thread::sleep(Duration::from_millis(50));
        stop.abort();
    });
    let report = stream.close().unwrap();
    patience.join().unwrap();
    // The next packet may be on the wire in part, as far as the sender knows.
    assert_eq!((report.heaps, report.heaps_failed, report.heaps_unsubmitted), (8, 6, 72));
    assert_eq!(report.payload_bytes, 200);
    assert_eq!(arrival(&receiver), data(1, 2, false));
    assert!(matches!(arrival(&receiver), Arrival::Stop(_)));
}

/// Over TCP the rest of a packet that is on the wire in part goes before the stop heap, if there is room for both.
#[test]
fn an_abort_leaves_no_half_of_a_packet_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::to(&listener.local_addr().unwrap().to_string()).unwrap();
    settings.set("backend", "tcp").unwrap();
    settings.set("batch_heaps", "4").unwrap();
    // More than both buffers hold.
    let heap = Heap::new().array("samples", 0x3300, "i1", [32 << 20]);
    let mut stream = Stream::open(settings, heap).unwrap();
    let batch = stream.idle().unwrap();
    stream.submit(batch, 4).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let monitor = stream.monitor();
    wait_until(|| monitor.figures().heaps == 4);
    let stop = stream.stop_handle();
    let reader = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        stop.abort();
        let mut bytes = Vec::new();
        receiver.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let report = stream.close().unwrap();
    let bytes = reader.join().unwrap();
    assert_eq!((report.heaps, report.heaps_failed, report.others_failed), (4, 4, 0));
    let (mut at, mut is_stopped) = (0, false);
    while at < bytes.len() {
        // Of 64-40: how many item pointers there are, then those, of 23 bits of id and 40 of value.
        let pointers = usize::from(bytes[at + 7]);
        let pointers = bytes[at + 8..at + 8 + 8 * pointers].as_chunks().0;
        let pointers = pointers.iter().map(|it| u64::from_be_bytes(*it));
        let items: Vec<(u64, u64)> =
            pointers.map(|it| (it >> 40 & 0x7f_ffff, it & 0xff_ffff_ffff)).collect();
        let payload = items.iter().find(|(id, _)| *id == item::PAYLOAD_LENGTH).expect("a packet").1;
        is_stopped = items.contains(&(item::STREAM_CTRL, StreamControl::Stop as u64));
        at += 8 + 8 * items.len() + payload as usize;
    }
    assert!(is_stopped && at == bytes.len(), "{at} of {}", bytes.len());
}

/// A backend of a stream that fails as it is told.
fn faulty(faults: Vec<Fault>) -> (UdpSocket, Stream) {
    let (receiver, settings) = receiver(&[("descriptors", "own")]);
    let plan = StreamPlan::new(settings, heap()).unwrap();
    let plan = plan.wrap(move |inner| Box::new(FaultInjector::new(inner, faults.into_iter())));
    (receiver, plan.open().unwrap())
}

#[test]
fn a_failure_for_good_ends_the_stream_and_close_tells_why() {
    let (_receiver, mut stream) = faulty(vec![Fault::None, Fault::None, Fault::Break]);
    while submit(&mut stream) {}
    assert!(stream.is_ended());
    let submitted = stream.submitted();
    let Broken { reason, report } = stream.close().unwrap_err();
    assert_eq!(reason, BrokenReason::Failed(SendError::Injected));
    assert_eq!((report.heaps, report.sent()), (submitted, 4));
    assert!(report.heaps_failed > 0 && !report.is_success());
}

#[test]
fn a_stream_to_nowhere_is_counted_and_arrives_nowhere() {
    let (receiver, settings) = receiver(&[("backend", "null"), ("heaps", "10")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    while submit(&mut stream) {}
    let report = stream.close().unwrap();
    assert_eq!((report.heaps, report.sent(), report.backend), (10, 10, "null"));
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut [0; 2000]).is_err());
}

/// A backend that panics at its n-th post.
struct Panics(Box<dyn Backend>, u32);

#[expect(unsafe_code, reason = "the contract of the trait")]
// SAFETY: memory is read by the inner backend alone, whose word is passed on unchanged.
unsafe impl Backend for Panics {
    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        self.0.allocate(arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.0.register(region, batches)
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        self.1 = self.1.checked_sub(1).expect("a defect that was asked for");
        self.0.post(batch, packets)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        self.0.poll(done)
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        self.0.prepare_wait(wait)
    }

    fn pace(&mut self, rate: Rate) -> Result<bool, SendError> {
        self.0.pace(rate)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        self.0.unacknowledged()
    }

    fn counters(&self) -> Counters {
        self.0.counters()
    }
}

#[test]
fn a_panic_of_the_thread_that_posts_is_an_error_and_no_hang() {
    for posts in 0..4 {
        let (_receiver, settings) = receiver(&[("descriptors", "own")]);
        let plan = StreamPlan::new(settings, heap()).unwrap();
        let plan = plan.wrap(move |inner| Box::new(Panics(inner, posts)));
        let mut stream = plan.open().unwrap();
        while submit(&mut stream) {}
        let submitted = stream.submitted();
        let Broken { reason, report } = stream.close().unwrap_err();
        let BrokenReason::Panicked(panic) = reason else { panic!("{reason:?}") };
        assert!(panic.to_string().contains("a defect that was asked for"), "{panic}");
        assert_eq!(report.heaps, submitted);
        assert!(report.sent() <= 4 * u64::from(posts.saturating_sub(1)), "{report:?}");
    }
}

#[test]
fn a_stream_that_is_dropped_sends_what_it_was_given_and_no_stop_heap() {
    let (receiver, settings) = receiver(&[("rate", "2Mb/s"), ("burst", "1")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    assert!(submit(&mut stream) && submit(&mut stream));
    drop(stream);
    (0..8).for_each(|index| assert_eq!(arrival(&receiver), data(index, 1 + index, index == 0)));
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut [0; 1]).is_err(), "nothing comes after the last heap");
}
