//! Nothing is allocated in the steady state, on any thread.
//!
//! A program of its own, as the test harness has a thread that allocates.
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use doorbell::backend::Backend;
use doorbell::backend::pcap::{Pcap, PcapConfig};
use doorbell::backend::tcp::{Tcp, TcpConfig};
use doorbell::backend::udp::{Udp, UdpConfig, ZeroCopy};
use doorbell::pacer::Rate;
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan};
use doorbell::region::{self, Batch, Memory};
use doorbell::sender::{Completion, Pipeline, Sender};
use doorbell::settings::Settings;
use doorbell::stream::{Heap, Stream};
use doorbell::wire::Flavour;

fn main() {
    assert!(allocations(|| drop(Box::new(1))) > 0, "the allocator counts");
    for (name, open) in BACKENDS {
        for layout in [region::Layout::Packed, region::Layout::Split, region::Layout::Attached] {
            for order in [Order::Serial, Order::RoundRobin] {
                let (sender, batches) = sender(open(), layout, order);
                let case = format!("{name}, {layout:?}, {order:?}");
                let (sender, batches) = cycle_sender(sender, batches, &case);
                cycle_pipeline(sender, batches, &case);
            }
        }
    }
    cycle_stream();
}

/// A whole stream: with descriptors repeated by heaps and by the clock, paced, by several destinations.
fn cycle_stream() {
    let deaf: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for more in [
        &[][..],
        &[("zerocopy", "on")],
        &[("rate", "10Gb/s"), ("descriptors_every", "1ms")],
        &[("frame_rate", "100000"), ("descriptors_every", "64")],
    ] {
        let mut settings = Settings::default();
        settings.stream.to =
            deaf.iter().map(|it| it.local_addr().unwrap().to_string().parse().unwrap()).collect();
        settings.set("batch_heaps", "32").unwrap();
        more.iter().for_each(|(name, value)| settings.set(name, value).unwrap());
        let heap = Heap::new().immediate("timestamp", 0x1600).array("data", 0x3300, "u1", [1000]);
        let mut stream = Stream::open(settings, heap).unwrap();
        let mut cycle = |batches| {
            for round in 0..batches {
                let mut batch = stream.idle().unwrap();
                let heaps = stream.room();
                fill(&mut batch, round);
                stream.submit(batch, heaps).unwrap();
            }
        };
        cycle(500);
        // A thread allocates once, when a channel first makes it wait, which may be at any time.
        let least = (0..3).map(|_| allocations(|| cycle(200))).min();
        assert_eq!(least, Some(0), "a stream with {more:?}");
        let report = stream.close().unwrap();
        assert_eq!(report.heaps_failed, 0, "{more:?}");
    }
}

type Open = fn() -> Box<dyn Backend>;

/// Backends that send to nobody.
const BACKENDS: [(&str, Open); 5] = [
    ("pcap", || {
        let config = PcapConfig::to(vec!["192.0.2.7:7148".parse().unwrap()]);
        Box::new(Pcap::new(Box::new(io::sink()), &config).unwrap())
    }),
    ("udp", || udp(ZeroCopy::Off)),
    ("udp, zero-copy", || udp(ZeroCopy::On)),
    ("udp, zero-copy where it pays", || udp(ZeroCopy::Auto)),
    ("tcp", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut room = [0; 1 << 16];
            while stream.read(&mut room).is_ok_and(|some| some > 0) {}
        });
        Box::new(Tcp::open(&TcpConfig::new(vec![to])).unwrap())
    }),
];

fn udp(zero_copy: ZeroCopy) -> Box<dyn Backend> {
    // A socket that nobody reads: the kernel drops what it has no room for.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = UdpConfig { zero_copy, ..UdpConfig::new(vec![deaf.local_addr().unwrap()]) };
    std::mem::forget(deaf);
    Box::new(Udp::open(&config).unwrap())
}

fn cycle_sender(mut sender: Sender, batches: Vec<Batch>, case: &str) -> (Sender, Vec<Batch>) {
    let mut idle = batches;
    let mut cycle = |rate| {
        sender.pace(rate);
        for round in 0..ROUNDS {
            while let Some(mut batch) = idle.pop() {
                fill(&mut batch, round);
                sender.submit_first(batch, batch_heaps(round)).unwrap();
            }
            let polled = sender.poll();
            idle.extend(polled.or_else(|| sender.wait()).map(into_batch));
        }
        while let Some(completion) = sender.wait() {
            idle.push(into_batch(completion));
        }
    };
    let rate = Some(Rate::new(50_000_000_000, 4096));
    // Room for what is done grows up to one entry a packet.
    cycle(Some(Rate::new(u64::MAX, 1)));
    cycle(None);
    cycle(rate);
    assert_eq!(allocations(|| cycle(None)), 0, "{case}");
    assert_eq!(allocations(|| cycle(rate)), 0, "{case}, paced");
    (sender, idle)
}

fn cycle_pipeline(mut sender: Sender, batches: Vec<Batch>, case: &str) {
    // A thread that blocks on a channel for the first time allocates what it is woken by. At this
    // rate this one blocks in every cycle, and the other does once it has run out of batches.
    sender.pace(Some(Rate::new(200_000_000, 4096)));
    let mut idle = batches;
    let mut pipeline = Pipeline::start(sender, idle.len(), None).unwrap();
    let mut cycle = || {
        for round in 0..ROUNDS {
            while let Some(mut batch) = idle.pop() {
                fill(&mut batch, round);
                pipeline.submit_first(batch, batch_heaps(round));
            }
            let polled = pipeline.poll();
            let result = polled.or_else(|| pipeline.wait()).unwrap();
            idle.push(into_batch(result.unwrap()));
        }
        while let Some(result) = pipeline.wait() {
            idle.push(into_batch(result.unwrap()));
        }
    };
    for _ in 0..2 {
        cycle();
        while !others_sleep() {
            thread::yield_now();
        }
    }
    assert_eq!(allocations(cycle), 0, "{case}, pipeline");
}

/// Whether each other thread of this process is blocked: proc_pid_stat(5).
fn others_sleep() -> bool {
    let own = nix::unistd::gettid().to_string();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|it| it.unwrap());
    tasks.filter(|task| *task.file_name() != *own).all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
        // After the name, which may hold anything.
        stat.rsplit_once(')').unwrap().1.starts_with(" S")
    })
}

fn sender(backend: Box<dyn Backend>, layout: region::Layout, order: Order) -> (Sender, Vec<Batch>) {
    let mut sender = Sender::new(backend);
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 4096);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit: 1472 })
        .heaps(&heap, HEAPS)
        .order(order);
    let plan = Arc::new(plan.build().unwrap());
    let sources = match layout {
        region::Layout::Attached => vec![mapped_file()],
        region::Layout::Packed | region::Layout::Split => Vec::new(),
    };
    let batches = sender.allocate(&plan, layout, 2, sources).unwrap();
    (sender, batches)
}

fn mapped_file() -> Arc<Memory> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[7; 4096 * FRAMES]).unwrap();
    Arc::new(Memory::file(file.path()).unwrap())
}

fn fill(batch: &mut Batch, round: u64) {
    let is_attached = !batch.region().sources().is_empty();
    for heap in 0..batch.heaps() {
        batch.set_immediate(heap, 0x1600, round).unwrap();
        if is_attached {
            let frame = (round as usize + heap as usize) % FRAMES;
            assert!(batch.attach(heap, 0, 4096 * frame));
        } else {
            batch.fill(heap, &[round as u8; 4096]);
        }
    }
}

/// Whole batches and partial ones.
fn batch_heaps(round: u64) -> u32 {
    1 + round as u32 % HEAPS as u32
}

fn into_batch(completion: Completion) -> Batch {
    assert_eq!(completion.failures, []);
    completion.batch
}

/// Allocations of all threads while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.load(Ordering::SeqCst);
    work();
    COUNT.load(Ordering::SeqCst) - before
}

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory is of the system's allocator, as all that was given out is.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEAPS: usize = 4;
/// Of the file, each as long as a heap.
const FRAMES: usize = 16;
const ROUNDS: u64 = 100;
