//! A sender on a thread of its own.

mod capture;

use std::fs;
use std::future::Future;
use std::hint;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use doorbell::backend::SendError;
use doorbell::backend::fault::{Fault, FaultInjector};
use doorbell::pacer::Rate;
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::{Batch, Layout};
use doorbell::sender::{Job, Pipeline, Reason, Sender};
use doorbell::wire::{Flavour, Packet};
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;

use self::capture::Capture;

#[test]
fn batches_come_back_by_wait_and_by_poll() {
    let capture = Capture::default();
    let (sender, mut idle) = sender(&capture, &[Fault::Hold(2), Fault::Short(1)], 2);
    let mut pipeline = Pipeline::start(sender, 2, None).unwrap();
    assert!(pipeline.wait().is_none() && pipeline.poll().is_none());
    for round in 0..50_u8 {
        for mut batch in idle.drain(..) {
            (0..3).for_each(|heap| assert_eq!(batch.fill(heap, &[round; 100]), 100));
            pipeline.submit(batch);
        }
        assert_eq!(pipeline.in_flight(), 2);
        idle.push(pipeline.wait().unwrap().unwrap().batch);
        let second = loop {
            match pipeline.poll() {
                Some(result) => break result.unwrap(),
                None => thread::yield_now(),
            }
        };
        assert_eq!(second.sent(), 3);
        idle.push(second.batch);
    }
    assert_eq!(cnts(&capture), (1..=300).collect::<Vec<_>>());
    let packets = capture.packets();
    for (index, packet) in packets.iter().enumerate() {
        assert_eq!(Packet::parse(packet).unwrap().payload(), [(index / 6) as u8; 100]);
    }
}

#[test]
fn completions_are_awaited_without_a_runtime() {
    let capture = Capture::default();
    // Late enough that the future has to be woken.
    let (sender, batches) = sender(&capture, &[Fault::Hold(10_000)], 2);
    let mut pipeline = Pipeline::start(sender, 2, None).unwrap();
    batches.into_iter().for_each(|batch| pipeline.submit(batch));
    let (polls, sent) = block_on(async {
        let mut sent = Vec::new();
        while let Some(result) = pipeline.completion().await {
            let completion = result.unwrap();
            sent.push((completion.first_cnt, completion.sent()));
            if sent.len() < 20 {
                pipeline.submit(completion.batch);
            }
        }
        sent.sort_unstable();
        sent
    });
    assert_eq!(sent, (0..21).map(|batch| (1 + 3 * batch, 3)).collect::<Vec<_>>());
    assert!(polls > 1, "nothing was ever waited for");
    assert_eq!(pipeline.in_flight(), 0);
}

/// Batches come back at all times around the moment at which a future that found none is woken.
#[test]
fn no_completion_is_missed_whenever_it_comes() {
    let (sender, mut batches) = sender(&Capture::default(), &[], 1);
    let mut pipeline = Pipeline::start(sender, 1, None).unwrap();
    let (finished, in_time) = channel();
    let waiting = thread::spawn(move || {
        let mut batch = batches.pop().unwrap();
        for round in 0..ROUNDS {
            pipeline.submit(batch);
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_nanos(20 * (round % 500)) {
                hint::spin_loop();
            }
            batch = block_on(pipeline.completion()).1.unwrap().unwrap().batch;
        }
        finished.send(()).unwrap();
    });
    // A future that is not woken waits for ever.
    in_time.recv_timeout(Duration::from_secs(60)).expect("every completion is found");
    waiting.join().unwrap();
}

/// What is told to the thread takes effect between two posts.
#[test]
fn the_sender_is_asked_and_told_where_it_is() {
    let capture = Capture::default();
    let (sender, mut batches) = sender(&capture, &[], 2);
    let mut pipeline = Pipeline::start(sender, 2, None).unwrap();
    pipeline.with(|sender| sender.set_cnts(100, 10)).unwrap();
    let mut job = Job::new(batches.pop().unwrap(), 2);
    (job.tag, job.rate) = (7, Some(Rate::new(1_000_000, 1)));
    pipeline.submit_job(job);
    let completion = pipeline.wait().unwrap().unwrap();
    assert_eq!((completion.tag, completion.first_cnt, completion.sent()), (7, 100, 2));
    let (packets, bursts) =
        pipeline.with(|sender| (sender.counters().packets, sender.jitter().total())).unwrap();
    assert_eq!((packets, bursts), (2, 1), "two bursts have a time between them");
    assert_eq!(cnts(&capture), [100, 110]);
}

/// Whoever waits for its time has all that is submitted later wait, too.
#[test]
fn a_job_goes_when_it_may_and_in_its_turn() {
    let capture = Capture::default();
    let (sender, mut batches) = sender(&capture, &[], 2);
    let mut pipeline = Pipeline::start(sender, 2, None).unwrap();
    let due = Instant::now() + Duration::from_millis(30);
    let later = Job { not_before: Some(due), tag: 1, ..Job::new(batches.pop().unwrap(), 3) };
    pipeline.submit_job(later);
    pipeline.submit_job(Job { tag: 2, ..Job::new(batches.pop().unwrap(), 3) });
    let tags = [(); 2].map(|()| pipeline.wait().unwrap().unwrap().tag);
    assert!(Instant::now() >= due, "it left early");
    assert_eq!((tags, cnts(&capture)), ([1, 2], vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn a_batch_is_repeated_until_the_end() {
    let capture = Capture::default();
    let (sender, mut batches) = sender(&capture, &[], 2);
    let mut pipeline = Pipeline::start(sender, 2, None).unwrap();
    pipeline.repeat(batches.pop().unwrap(), Duration::from_millis(2));
    while capture.so_far().0.len() < 9 {
        thread::yield_now();
    }
    pipeline.submit(batches.pop().unwrap());
    assert_eq!(pipeline.wait().unwrap().unwrap().sent(), 3);
    let (_, results) = pipeline.close().unwrap();
    assert!(results.is_empty(), "what is repeated is not given back");
    let cnts = cnts(&capture);
    assert!(cnts.iter().copied().eq(1..=cnts.len() as u64), "{cnts:?}");
}

#[test]
fn what_is_refused_comes_back() {
    let capture = Capture::default();
    let (sender, mut batches) = sender(&capture, &[Fault::None, Fault::Break], 2);
    let mut pipeline = Pipeline::start(sender, 1, None).unwrap();
    pipeline.submit_first(batches.pop().unwrap(), 4);
    let rejected = pipeline.wait().unwrap().unwrap_err();
    assert_eq!(rejected.reason, Reason::Heaps { asked: 4, batch: 3 });
    pipeline.submit_first(*rejected.batch, 2);
    assert_eq!(pipeline.wait().unwrap().unwrap().sent(), 2);
    pipeline.submit(batches.pop().unwrap());
    let completion = pipeline.wait().unwrap().unwrap();
    assert_eq!(completion.sent(), 0);
    pipeline.submit(completion.batch);
    let rejected = block_on(pipeline.completion()).1.unwrap().unwrap_err();
    assert_eq!(rejected.reason, Reason::Failed(SendError::Injected));
    assert_eq!(cnts(&capture), [1, 2]);
}

#[test]
fn more_batches_than_there_is_room_for_block_and_then_come_back() {
    let capture = Capture::default();
    let (sender, batches) = sender(&capture, &[], 40);
    let mut pipeline = Pipeline::start(sender, 1, None).unwrap();
    batches.into_iter().for_each(|batch| pipeline.submit(batch));
    assert_eq!(pipeline.in_flight(), 40);
    let mut first_cnts = Vec::new();
    while let Some(result) = pipeline.wait() {
        first_cnts.push(result.unwrap().first_cnt);
    }
    assert_eq!(first_cnts, (0..40).map(|batch| 1 + 3 * batch).collect::<Vec<_>>());
}

#[test]
fn close_returns_the_sender_and_the_rest() {
    let capture = Capture::default();
    let (sender, mut batches) = sender(&capture, &[Fault::Hold(100), Fault::Short(1)], 3);
    let last = batches.pop().unwrap();
    let mut pipeline = Pipeline::start(sender, 3, None).unwrap();
    batches.into_iter().for_each(|batch| pipeline.submit(batch));
    let (mut sender, results) = pipeline.close().unwrap();
    let sent: Vec<u32> = results.into_iter().map(|result| result.unwrap().sent()).collect();
    assert_eq!(sent, [3, 3]);
    assert_eq!((sender.next_cnt(), sender.in_flight()), (7, 0));
    sender.submit(last).unwrap();
    assert_eq!(sender.wait().unwrap().first_cnt, 7);
    assert_eq!(cnts(&capture), (1..=9).collect::<Vec<_>>());
}

#[test]
fn a_pipeline_that_is_dropped_sends_what_it_was_given() {
    let capture = Capture::default();
    let faults = [Fault::Hold(100), Fault::Short(1), Fault::Hold(10)];
    let (sender, batches) = sender(&capture, &faults, 8);
    let mut pipeline = Pipeline::start(sender, 1, None).unwrap();
    batches.into_iter().for_each(|batch| pipeline.submit(batch));
    drop(pipeline);
    assert_eq!(cnts(&capture), (1..=24).collect::<Vec<_>>());
}

#[test]
fn the_thread_stays_on_its_core() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let core = (0..1024).rev().find(|&core| allowed.is_set(core).unwrap()).unwrap();
    let (sender, mut batches) = sender(&Capture::default(), &[], 1);
    let mut pipeline = Pipeline::start(sender, 1, Some(core)).unwrap();
    pipeline.submit(batches.pop().unwrap());
    assert_eq!(pipeline.wait().unwrap().unwrap().sent(), 3);
    let pinned = fs::read_dir("/proc/self/task").unwrap().any(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        let has = |line: &str| status.lines().any(|other| other == line);
        has("Name:\tdoorbell sender") && has(&format!("Cpus_allowed_list:\t{core}"))
    });
    assert!(pinned, "no thread of the sender's name is bound to core {core}");

    // One that no kernel numbers, and one that this machine does not have.
    for core in [usize::MAX, 1023] {
        let (sender, _) = self::sender(&Capture::default(), &[], 1);
        let error = Pipeline::start(sender, 1, Some(core)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
}

/// A sender of batches of three heaps of a packet each.
fn sender(capture: &Capture, faults: &[Fault], batches: u32) -> (Sender, Vec<Batch>) {
    let faults: Vec<Fault> = faults.into();
    let backend = FaultInjector::new(capture.backend(&["192.0.2.7:7148"]), faults.into_iter());
    let mut sender = Sender::new(Box::new(backend));
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1472))
        .heaps(&HeapSpec::new().payload(0x3300, 100), 3);
    let plan = Arc::new(plan.build().unwrap());
    let batches = sender.allocate(&plan, Layout::Packed, batches, Vec::new()).unwrap();
    (sender, batches)
}

fn cnts(capture: &Capture) -> Vec<u64> {
    let cnt = |packet: &Vec<u8>| Packet::parse(packet).unwrap().header().heap_cnt;
    capture.packets().iter().map(cnt).collect()
}

/// Runs a future, and says how often it was polled. It is not unless it was woken.
fn block_on<T>(future: impl Future<Output = T>) -> (u32, T) {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let mut polls = 1;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return (polls, output),
            Poll::Pending => thread::park(),
        }
        polls += 1;
    }
}

/// Of tries to hit the moment.
const ROUNDS: u64 = 10_000;
