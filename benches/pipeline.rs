//! Whether filling and sending overlap: a sender on a thread of its own, and this thread filling.
//!
//! `benches/namespace.sh 9000 cargo bench --bench pipeline -- 192.0.2.1:7148 8192 0.5` fills heaps of 8192
//! bytes as the tutorial does, every byte of every heap, and sends them; then it does each alone, in turn,
//! five times. It prints, as JSON, the medians in GB/s of payload, and which share of the slower of the two
//! both together reach (the median of the shares within each round): 1 if they overlap wholly.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbell::backend::max_packet_size;
use doorbell::backend::udp::{Udp, UdpConfig, route_mtu};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::{Batch, Layout};
use doorbell::sender::{Completion, Pipeline, Sender};
use doorbell::wire::Flavour;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [to, heap_len, seconds] = arguments.as_slice() else {
        // `cargo bench` and `cargo test --benches` run it without arguments.
        println!("usage: pipeline HOST:PORT HEAP-SIZE SECONDS");
        return Ok(());
    };
    let bench = Bench {
        to: to.parse()?,
        heap_len: heap_len.parse()?,
        time: Duration::from_secs_f64(seconds.parse()?),
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push([bench.fill_alone()?, bench.send_alone()?, bench.pipelined()?]);
    }
    let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{}",
        serde_json::json!({
            "heap": bench.heap_len,
            "fill_gb_per_s": median(&|round| round[0]),
            "send_gb_per_s": median(&|round| round[1]),
            "both_gb_per_s": median(&|round| round[2]),
            "of_the_slower": median(&|round| round[2] / round[0].min(round[1])),
        })
    );
    Ok(())
}

struct Bench {
    to: SocketAddr,
    heap_len: usize,
    time: Duration,
}

impl Bench {
    fn sender(&self) -> Outcome<(Sender, Vec<Batch>)> {
        let config = UdpConfig::new(vec![self.to]);
        let limit = max_packet_size(route_mtu(&config)?, self.to.ip());
        let heap = HeapSpec::new().immediate(TIMESTAMP, 0).payload(0x3300, self.heap_len);
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit })
            .heaps(&heap, (BATCH_BYTES / self.heap_len).max(1))
            .build()
            .map(Arc::new)?;
        let mut sender = Sender::new(Box::new(Udp::open(&config)?));
        let batches = sender.allocate(&plan, Layout::Packed, BATCHES, Vec::new())?;
        Ok((sender, batches))
    }

    /// Fills batch after batch.
    fn fill_alone(&self) -> Outcome<f64> {
        let (_sender, mut batches) = self.sender()?;
        self.measure(|round| {
            let count = batches.len();
            Ok(self.fill(&mut batches[round as usize % count], round))
        })
    }

    /// Sends what is never filled.
    fn send_alone(&self) -> Outcome<f64> {
        let (mut sender, mut idle) = self.sender()?;
        self.measure(|_| {
            let bytes = self.bytes(&idle[0]);
            sender.submit(idle.pop().ok_or("one is idle")?)?;
            idle.push(whole(sender.wait().ok_or("it is in flight")?));
            Ok(bytes)
        })
    }

    /// Fills one batch while another is sent.
    fn pipelined(&self) -> Outcome<f64> {
        let (sender, mut idle) = self.sender()?;
        let mut pipeline = Pipeline::start(sender, BATCHES as usize, None)?;
        self.measure(|round| {
            let mut batch = match idle.pop() {
                Some(batch) => batch,
                None => whole(pipeline.wait().ok_or("they are in flight")??),
            };
            let bytes = self.fill(&mut batch, round);
            pipeline.submit(batch);
            Ok(bytes)
        })
    }

    /// Has something done batch after batch, and returns GB/s.
    fn measure(&self, mut next: impl FnMut(u64) -> Outcome<u64>) -> Outcome<f64> {
        (0..WARM_UP).try_for_each(|round| next(round).map(|_| ()))?;
        let (start, mut bytes, mut round) = (Instant::now(), 0, WARM_UP);
        while start.elapsed() < self.time {
            bytes += next(round)?;
            round += 1;
        }
        Ok(bytes as f64 / start.elapsed().as_secs_f64() * 1e-9)
    }

    /// Writes every byte of a batch, as the tutorial does, and says how many that were.
    fn fill(&self, batch: &mut Batch, round: u64) -> u64 {
        for heap in 0..batch.heaps() {
            let index = round * u64::from(batch.heaps()) + u64::from(heap);
            let timestamp = index * self.heap_len as u64;
            batch.set_immediate(heap, TIMESTAMP, timestamp).expect("it fits");
            for chunk in batch.payload(heap).chunks() {
                chunk.fill(index as u8);
            }
        }
        self.bytes(batch)
    }

    fn bytes(&self, batch: &Batch) -> u64 {
        u64::from(batch.heaps()) * self.heap_len as u64
    }
}

fn whole(completion: Completion) -> Batch {
    assert_eq!(completion.failures, []);
    completion.batch
}

const TIMESTAMP: u64 = 0x1600;
const ROUNDS: usize = 5;
const WARM_UP: u64 = 16;
const BATCH_BYTES: usize = 512 << 10;
/// One that is filled, one that is sent, and one between the two.
const BATCHES: u32 = 3;
