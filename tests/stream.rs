//! The whole life of a stream, over the kernel's own UDP and TCP: what arrives, in which order, and that
//! nothing waits for whoever fills.

use std::future::Future;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use doorbell::backend::fault::{Fault, FaultInjector};
use doorbell::backend::{Backend, Caps, Counters, Done, OpenError, SendError, wait::Wait};
use doorbell::pacer::Rate;
use doorbell::region::{Arrangement, Batch, InFlight, Memory, Region};
use doorbell::sender::Reason;
use doorbell::settings::Settings;
use doorbell::stream::{Broken, BrokenReason, Heap, Report, Stream, StreamPlan};
use doorbell::wire::{Packet, StreamControl, item};

/// A timestamp, and 100 bytes.
fn heap() -> Heap {
    Heap::new().immediate("timestamp", 0x1600).array("samples", 0x3300, "i1", [100])
}

/// A receiver that waits, and settings of a stream to it.
fn receiver(more: &[(&str, &str)]) -> (UdpSocket, Settings) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut settings = Settings::to(&receiver.local_addr().unwrap().to_string()).unwrap();
    settings.set("batch_heaps", "4").unwrap();
    for (name, value) in more {
        settings.set(name, value).unwrap();
    }
    (receiver, settings)
}

/// What a packet is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Arrival {
    /// A heap with data: its cnt, its timestamp, whether it has descriptors, the first byte.
    Data(u64, u64, bool, u8),
    /// Descriptors alone.
    Descriptors(u64),
    Start(u64),
    Stop(u64),
}

fn arrival(socket: &UdpSocket) -> Arrival {
    let mut bytes = [0; 65_536];
    let len = socket.recv(&mut bytes).expect("a packet within a while");
    let packet = Packet::parse(&bytes[..len]).unwrap();
    let (flavour, cnt) = (packet.header().flavour, packet.header().heap_cnt);
    let value = |id| {
        let mut pointers = packet.item_pointers();
        pointers.find(|it| it.id(flavour) == id).map(|pointer| pointer.value(flavour))
    };
    let described = value(item::DESCRIPTOR).is_some();
    match (value(item::STREAM_CTRL), value(0x3300)) {
        (Some(control), _) if control == StreamControl::Stop as u64 => Arrival::Stop(cnt),
        (Some(_), _) => Arrival::Start(cnt),
        (None, Some(at)) => {
            let first = packet.payload()[at as usize];
            Arrival::Data(cnt, value(0x1600).unwrap(), described, first)
        }
        (None, None) => Arrival::Descriptors(cnt),
    }
}

/// Fills and submits as much as there is room for, once.
fn submit(stream: &mut Stream) -> bool {
    let Some(mut batch) = stream.idle() else { return false };
    let (first, heaps) = (stream.submitted(), stream.room());
    for (heap, index) in (0..heaps).zip(first..) {
        batch.set_immediate(heap, 0x1600, 100 * index).unwrap();
        batch.fill(heap, &[index as u8; 100]);
    }
    stream.submit(batch, heaps).unwrap();
    true
}

fn data(index: u64, cnt: u64, described: bool) -> Arrival {
    Arrival::Data(cnt, 100 * index, described, index as u8)
}

#[test]
fn descriptors_then_data_then_the_stop_heap() {
    let (receiver, settings) = receiver(&[("heaps", "10")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    while submit(&mut stream) {}
    let report = stream.close().unwrap();
    assert_eq!((report.heaps, report.heaps_failed, report.heaps_unsubmitted), (10, 0, 0));
    assert_eq!((report.packets, report.payload_bytes, report.backend), (11, 1000, "udp"));
    for index in 0..10 {
        assert_eq!(arrival(&receiver), data(index, 1 + index, index == 0));
    }
    assert_eq!(arrival(&receiver), Arrival::Stop(11));
}

#[test]
fn descriptors_may_have_a_heap_of_their_own() {
    let more = [("heaps", "2"), ("descriptors", "own"), ("cnt_start", "7"), ("cnt_step", "2")];
    let (receiver, settings) = receiver(&more);
    let mut stream = Stream::open(settings, heap()).unwrap();
    while submit(&mut stream) {}
    assert!(stream.close().unwrap().is_success());
    let arrivals: Vec<Arrival> = (0..4).map(|_| arrival(&receiver)).collect();
    let expected =
        [Arrival::Descriptors(7), data(0, 9, false), data(1, 11, false), Arrival::Stop(13)];
    assert_eq!(arrivals, expected);
}

/// Whoever fills does nothing more: the rest of a batch, kept back by the rate, leaves all the same.
#[test]
fn a_source_that_blocks_holds_back_nothing_that_is_paced() {
    let (receiver, settings) = receiver(&[("rate", "1Mb/s"), ("burst", "100"), ("heaps", "9")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    assert!(submit(&mut stream) && submit(&mut stream));
    for index in 0..8 {
        assert_eq!(arrival(&receiver), data(index, 1 + index, index == 0));
    }
    let monitor = stream.monitor();
    wait_until(|| monitor.figures().in_flight == 0);
    let figures = monitor.figures();
    assert_eq!((figures.heaps, figures.payload_bytes, figures.counters.packets), (8, 800, 8));
    let report = stream.close().unwrap();
    assert_eq!((report.heaps, report.heaps_unsubmitted), (8, 1));
    assert_eq!(arrival(&receiver), Arrival::Stop(9));
}

/// As above, over TCP: what did not fit the send buffer leaves when there is room.
#[test]
fn a_source_that_blocks_holds_back_nothing_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::to(&listener.local_addr().unwrap().to_string()).unwrap();
    settings.set("backend", "tcp").unwrap();
    // More than both buffers hold.
    let len = 64 << 20;
    let heap = Heap::new().array("frame", 0x3300, "u1", [len]);
    let mut stream = Stream::open(settings, heap).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let batch = stream.idle().unwrap();
    stream.submit(batch, 1).unwrap();
    let (mut read, mut buffer) = (0_u64, vec![0; 1 << 20]);
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    while read < len {
        read += connection.read(&mut buffer).expect("more of the frame") as u64;
    }
    // The stop heap comes when it is asked for, and no earlier.
    let reader = thread::spawn(move || connection.read_to_end(&mut Vec::new()).unwrap());
    assert!(stream.close().unwrap().is_success());
    assert!(reader.join().unwrap() > 0);
}

/// Nor does what is due by the clock wait for heaps.
#[test]
fn descriptors_are_repeated_while_no_heap_comes() {
    let (receiver, settings) = receiver(&[("descriptors_every", "10ms")]);
    let stream = Stream::open(settings, heap()).unwrap();
    for cnt in 1..=5 {
        assert_eq!(arrival(&receiver), Arrival::Descriptors(cnt));
    }
    let report = stream.close().unwrap();
    assert_eq!((report.heaps, report.others_failed), (0, 0));
}

#[test]
fn descriptors_are_repeated_after_so_many_heaps() {
    let (receiver, settings) = receiver(&[("descriptors_every", "6"), ("heaps", "14")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    let mut index = 0;
    // Each before the next is filled, so that descriptors are never still in flight when they are due.
    let mut cnt = 1;
    while submit(&mut stream) {
        let end = stream.submitted();
        if index == 6 || index == 12 {
            assert_eq!(arrival(&receiver), Arrival::Descriptors(cnt));
            cnt += 1;
        }
        for index in index..end {
            assert_eq!(arrival(&receiver), data(index, cnt, index == 0));
            cnt += 1;
        }
        index = end;
    }
    assert_eq!(index, 14);
    assert!(stream.close().unwrap().is_success());
}

#[test]
fn a_warm_up_says_nothing_and_takes_no_cnts() {
    let (receiver, settings) = receiver(&[("warm_up", "250ms"), ("heaps", "1")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    assert!(submit(&mut stream));
    let mut starts = 0;
    let first = loop {
        match arrival(&receiver) {
            Arrival::Start(cnt) => assert_eq!(cnt, 1),
            other => break other,
        }
        starts += 1;
    };
    assert!(starts >= 2, "{starts} heaps in 250 ms, of ten a second");
    assert_eq!(first, data(0, 2, true));
    assert!(stream.close().unwrap().is_success());
}

#[test]
fn batches_of_a_rate_of_their_own_and_substreams_that_are_off() {
    let (first, mut settings) = receiver(&[("heaps", "8"), ("batch_heaps", "8")]);
    let second = UdpSocket::bind("127.0.0.1:0").unwrap();
    settings.stream.to.push(second.local_addr().unwrap().to_string().parse().unwrap());
    let mut stream = Stream::open(settings, heap()).unwrap();
    assert!(stream.substreams().disable(1));
    let batch = stream.idle().unwrap();
    stream.submit_at(batch, 8, Rate::new(1_000_000, 1)).unwrap();
    let report = stream.close().unwrap();
    assert_eq!((report.heaps, report.heaps_failed), (8, 4));
    let [on, off] = &report.destinations[..] else { panic!("{:?}", report.destinations) };
    assert_eq!((on.heaps_failed, off.heaps_failed, off.heaps), (0, 4, 4));
    assert!(report.jitter.is_none_or(|jitter| jitter.intervals <= 3), "only the batch was paced");
    assert_eq!(arrival(&first), Arrival::Descriptors(1));
    (0..4).for_each(|heap| {
        assert!(matches!(arrival(&first), Arrival::Data(cnt, ..) if cnt == 3 + 2 * heap))
    });
}

#[test]
fn what_does_not_fit_comes_back() {
    let (_receiver, settings) = receiver(&[("heaps", "3")]);
    let mut stream = Stream::open(settings, heap()).unwrap();
    let batch = stream.idle().unwrap();
    assert_eq!((stream.room(), batch.heaps()), (3, 3));
    let rejected = stream.submit(batch, 0).unwrap_err();
    assert_eq!(rejected.reason, Reason::Heaps { asked: 0, batch: 3 });
    let rejected = stream.submit(*rejected.batch, 4).unwrap_err();
    assert_eq!(rejected.reason, Reason::Ended);
    stream.submit(*rejected.batch, 2).unwrap();
    let batch = stream.idle().unwrap();
    let rejected = stream.submit(batch, 2).unwrap_err();
    assert_eq!((rejected.reason, stream.room()), (Reason::Ended, 1));
    stream.submit(*rejected.batch, 1).unwrap();
    assert!(stream.idle().is_none() && stream.is_ended());
    assert_eq!(stream.close().unwrap().sent(), 3);
}

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

#[test]
fn batches_are_awaited_by_no_particular_runtime() {
    let (receiver, settings) = receiver(&[("rate", "4Mb/s"), ("burst", "1"), ("heaps", "40")]);
    let reader = thread::spawn(move || {
        let mut data = 0;
        while !matches!(arrival(&receiver), Arrival::Stop(_)) {
            data += 1;
        }
        data
    });
    let mut stream = Stream::open(settings, heap()).unwrap();
    let polls = block_on(async {
        while let Some(batch) = stream.idle_async().await {
            let heaps = stream.room();
            stream.submit(batch, heaps).unwrap();
        }
    });
    assert!(polls > 1, "nothing was ever waited for");
    assert_eq!(stream.close().unwrap().sent(), 40);
    assert_eq!(reader.join().unwrap(), 40);
}

#[test]
fn threads_are_bound_to_cpus_and_said_to_be() {
    let (_receiver, mut settings) = receiver(&[("heaps", "1")]);
    settings.set("cpu", "0").unwrap();
    let mut stream = Stream::open(settings.clone(), heap()).unwrap();
    assert!(submit(&mut stream));
    assert_eq!(stream.close().unwrap().cpu, [0]);
    settings.backend.cpu = vec![0, 1023];
    let error = Stream::open(settings, heap()).err().unwrap().to_string();
    assert!(error.starts_with("backend.cpu = 1023: "), "{error}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_sent() {
    let refused = |settings: Settings, heap: Heap| match Stream::open(settings, heap) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    };
    let error = refused(Settings::default(), heap());
    assert_eq!(error, "stream.to is missing: give HOST:PORT");
    let (_receiver, settings) = receiver(&[]);
    let error = refused(settings.clone(), heap().array("b", 0x3301, "u10", [4]));
    assert!(error.starts_with("item b: `u10` is no dtype"), "{error}");
    let error = refused(settings, heap().array("timestamp", 0x3301, "u1", [4]));
    assert!(error.contains("0x1600=timestamp and 0x3301=timestamp"), "{error}");
}

/// The report is a plain value, to be kept as JSON.
#[test]
fn the_report_is_a_plain_value() {
    let json = serde_json::to_value(Report::default()).unwrap();
    assert_eq!((&json["heaps"], &json["others_failed"]), (&0.into(), &0.into()));
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "it never was");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a future, and says how often it was polled. It is not unless it was woken.
fn block_on(future: impl Future<Output = ()>) -> u32 {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let mut polls = 1;
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
        polls += 1;
    }
    polls
}

/// Longer than any machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);
