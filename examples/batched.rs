//! The SPEAD tutorial's batched sender: two batches, about 1 MiB in flight together.
//!
//! `cargo run --release --example batched -- 127.0.0.1:7148 1000`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use doorbell::backend::max_packet_size;
use doorbell::backend::udp::{Udp, UdpConfig, route_mtu};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::Layout;
use doorbell::sender::Sender;
use doorbell::wire::{Descriptor, Field, Flavour, NumpyHeader, StreamControl};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let to: SocketAddr = arguments.next().unwrap_or("127.0.0.1:7148".into()).parse()?;
    let heaps: u64 = arguments.next().map_or(Ok(1000), |heaps| heaps.parse())?;

    let config = UdpConfig::new(vec![to]);
    let limit = max_packet_size(route_mtu(&config)?, to.ip());
    let plan = |heap: &HeapSpec, count| {
        let size = PacketSize::Uniform { limit };
        Plan::builder(Flavour::SPEAD_64_40, size).heaps(heap, count).build().map(Arc::new)
    };
    let start = plan(&HeapSpec::new().descriptor(timestamp()).descriptor(samples()), 1)?;
    let data = plan(&HeapSpec::new().immediate(0x1600, 0).payload(0x3300, HEAP_LEN), HEAPS)?;
    let stop = plan(&HeapSpec::control(StreamControl::Stop), 1)?;

    let mut sender = Sender::new(Box::new(Udp::open(&config)?));
    for batch in sender.allocate(&start, Layout::Packed, 1, Vec::new())? {
        sender.submit(batch)?;
        assert!(sender.wait().is_some_and(|done| done.failures.is_empty()));
    }

    let mut idle = sender.allocate(&data, Layout::Packed, 2, Vec::new())?;
    let begin = Instant::now();
    let mut next = 0;
    while next < heaps {
        // One that was never sent, or the next that comes back.
        let fresh = idle.pop();
        let mut batch = fresh.unwrap_or_else(|| sender.wait().expect("two are in flight").batch);
        let count = (heaps - next).min(HEAPS as u64) as u32;
        for heap in 0..count {
            batch.set_immediate(heap, 0x1600, next * HEAP_LEN as u64);
            batch.payload(heap).chunks().for_each(|chunk| chunk.fill(next as u8));
            next += 1;
        }
        sender.submit_first(batch, count)?;
    }
    let rate = (heaps * HEAP_LEN as u64) as f64 / begin.elapsed().as_secs_f64();
    println!("{heaps} heaps, {:.1} MB/s", rate / 1e6);

    for batch in sender.allocate(&stop, Layout::Packed, 1, Vec::new())? {
        sender.submit(batch)?;
    }
    while sender.wait().inspect(|done| assert!(done.failures.is_empty())).is_some() {}
    Ok(())
}

fn timestamp() -> Descriptor {
    Descriptor {
        id: 0x1600,
        name: "timestamp".into(),
        description: "Index of the first sample".into(),
        format: vec![Field::new(b'u', 40)],
        ..Descriptor::default()
    }
}

fn samples() -> Descriptor {
    let header = NumpyHeader::new("|i1", &[HEAP_LEN as u64]);
    Descriptor::numpy(0x3300, "adc_samples", "ADC converter output", header)
}

const HEAP_LEN: usize = 8192;
const HEAPS: usize = 64;
