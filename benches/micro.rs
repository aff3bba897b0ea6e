//! What single steps cost: `cargo bench --bench micro`.
//!
//! `plan` cuts a batch of heaps into packets; `stamp` is a whole trip through the sender, to a backend
//! that reads nothing; `post` hands a batch to a UDP socket on loopback that nobody reads, whole, and in
//! two parts, for which a message is cut and mended; `encode` is a descriptor. All but the last are
//! given per packet, or per heap, in criterion's `thrpt`.

use std::error::Error;
use std::hint::black_box;
use std::net::UdpSocket;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorbell::backend::Backend;
use doorbell::backend::null::Null;
use doorbell::backend::udp::{Udp, UdpConfig};
use doorbell::plan::{HeapSpec, PacketSize, Plan, PlanError};
use doorbell::region::{InFlight, Layout, Region};
use doorbell::sender::Sender;
use doorbell::wire::{Descriptor, Field, Flavour};
use nix::sys::socket::{setsockopt, sockopt};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
    targets = plan, stamp, post, substreams, encode
}
criterion_main!(benches);

fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for (heap_len, heaps) in [(1024, 512), (1024, 4096), (65_536, 8), (65_536, 512)] {
        group.throughput(Throughput::Elements(heaps as u64));
        let name = BenchmarkId::new(format!("heaps of {heap_len}"), heaps);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(cut(heap_len, heaps, 1)));
        });
    }
}

fn stamp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stamp");
    for layout in [Layout::Packed, Layout::Split] {
        for heaps in [8, 64, 512, 4096] {
            let plan = Arc::new(cut(1024, heaps, 1).expect("a heap that fits"));
            let mut sender = Sender::new(Box::new(Null::new(1)));
            let mut batches =
                sender.allocate(&plan, layout, 1, Vec::new()).expect("some megabytes");
            group.throughput(Throughput::Elements(plan.packets().len() as u64));
            let name = BenchmarkId::new(format!("{layout:?}"), heaps);
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    sender.submit(batches.pop().expect("it came back")).expect("it is its own");
                    batches.push(sender.wait().expect("it is in flight").batch);
                });
            });
        }
    }
}

fn post(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("post");
    for layout in [Layout::Packed, Layout::Split] {
        let plan = cut(1024, 512, 1).expect("a heap that fits");
        let (mut udp, mut batch, _deaf) = on_loopback(plan, layout).expect("there is loopback");
        let packets = batch.region().plan().packets().len() as u32;
        let mut done = Vec::new();
        let mut send = |ranges: &[Range<u32>]| {
            for range in ranges {
                udp.post(&mut batch, range.clone()).expect("loopback takes all");
            }
            udp.poll(&mut done).expect("nothing can go wrong");
            done.clear();
        };
        group.throughput(Throughput::Elements(packets.into()));
        let name = |what| BenchmarkId::new(format!("{layout:?}"), what);
        let all = 0..packets;
        let whole = std::slice::from_ref(&all);
        // Within the first message.
        let parts = [0..CUT, CUT..packets];
        group.bench_function(name("whole"), |bencher| bencher.iter(|| send(whole)));
        group.bench_function(name("in two parts"), |bencher| bencher.iter(|| send(&parts)));
    }
}

fn substreams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("substreams");
    for (heap_len, heaps) in [(1024, 512), (65_536, 64)] {
        for flows in [1, 2, 8, 32] {
            let plan = cut(heap_len, heaps, flows).expect("a heap that fits");
            let packets = plan.packets().len() as u32;
            let (mut udp, mut batch, _deaf) =
                on_loopback(plan, Layout::Packed).expect("there is loopback");
            let mut done = Vec::new();
            group.throughput(Throughput::Elements(packets.into()));
            let name = BenchmarkId::new(format!("heaps of {heap_len}"), flows);
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    udp.post(&mut batch, 0..packets).expect("loopback takes all");
                    udp.poll(&mut done).expect("nothing can go wrong");
                    done.clear();
                });
            });
        }
    }
}

fn encode(criterion: &mut Criterion) {
    let descriptor = Descriptor {
        id: 0x3300,
        name: "adc_samples".into(),
        description: "Samples of the digitiser, ten bits each, packed".into(),
        format: vec![Field::new(b'i', 10)],
        ..Descriptor::default()
    };
    criterion.bench_function("encode a descriptor", |bencher| {
        bencher.iter(|| black_box(&descriptor).encode(Flavour::SPEAD_64_40));
    });
}

fn cut(heap_len: usize, heaps: usize, flows: u32) -> Result<Plan, PlanError> {
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, heap_len);
    let size = PacketSize::Uniform { limit: 8972 };
    Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, heaps).flows(flows).build()
}

/// A batch that is stamped, and a socket for it; each flow ends at a socket that nobody reads.
fn on_loopback(
    plan: Plan,
    layout: Layout,
) -> Result<(Udp, InFlight, Vec<UdpSocket>), Box<dyn Error>> {
    let plan = Arc::new(plan);
    let deaf: Vec<UdpSocket> =
        (0..plan.flows()).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    for socket in &deaf {
        // Without, the kernel segments each message for it, at the sender's expense.
        setsockopt(socket, sockopt::UdpGroSegment, &true)?;
    }
    let addresses = deaf.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
    let mut udp = Udp::open(&UdpConfig::new(addresses))?;
    let (region, mut batches) =
        Region::allocate(&plan, layout, 1, udp.caps().placement, Vec::new())?;
    udp.register(&region, &mut batches)?;
    Ok((udp, batches.remove(0).stamp(plan.heaps(), 1, 1), deaf))
}

const CUT: u32 = 10;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASUREMENT: Duration = Duration::from_secs(2);
