//! The life of a stream, over the kernel's own UDP and TCP: what arrives, in which order, and that nothing waits
//! for whoever fills.

mod streams;

use std::future::Future;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};

use doorbell::pacer::Rate;
use doorbell::sender::Reason;
use doorbell::settings::Settings;
use doorbell::stream::{Heap, Report, Stream};

use self::streams::{Arrival, PATIENCE, arrival, data, heap, receiver, submit, wait_until};

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
