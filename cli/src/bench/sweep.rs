//! All sizes, all ways: which plans, in which order.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Size;
use doorbell::backend::max_packet_size;
use doorbell::plan::{HeapSpec, PacketSize, Plan, PlanError};
use doorbell::receive::TIMESTAMP_ITEM as TIMESTAMP;
use doorbell::stream::StreamError;
use doorbell::wire::Flavour;

use super::load::Load;
use super::measure::Sample;
use super::report::{Row, Subject, binary};
use super::sink::Sink;
use super::variant::Variant;
use crate::args::{BenchArguments, BenchBackend};
use crate::exit::Failure;
use crate::source::DEFAULT_ITEM;

/// What is to be measured.
pub struct Sweep {
    heap_sizes: Vec<usize>,
    packet_limits: Vec<usize>,
    variants: Vec<Variant>,
    repeat: u32,
    time: Duration,
    /// What is not measured, and why.
    pub left_out: Vec<String>,
}

impl Sweep {
    /// Finds out what can be measured. What was asked for by name is not left out.
    pub fn prepare(arguments: &BenchArguments, sink: &Sink) -> Result<Self, Failure> {
        let mut left_out = Vec::new();
        let mut variants = Vec::new();
        let asked = !arguments.backends.is_empty();
        let backends = if asked { arguments.backends.as_slice() } else { &BACKENDS };
        for &backend in backends {
            match Variant::all(backend, &arguments.layouts, sink.address) {
                Ok(found) => variants.extend(found),
                Err(error) if asked => return Err(error.into()),
                Err(error) => {
                    left_out.push(format!("{}: {error}", format!("{backend:?}").to_lowercase()));
                }
            }
        }
        if variants.is_empty() {
            return Err(Failure::Usage(format!("nothing to measure: {}", left_out.join("; "))));
        }
        if arguments.sizes.iter().any(|size| size.bytes() == 0) {
            return Err(Failure::Usage("--sizes: a heap of 0 bytes has no payload".into()));
        }
        let largest = max_packet_size(sink.mtu, sink.address.ip());
        let mut packet_limits = bytes(&arguments.packet_sizes);
        if let Some(limit) = packet_limits.iter().find(|&&limit| limit > largest) {
            return Err(Failure::Usage(format!(
                "--packet-sizes: {limit} bytes do not fit the MTU of the route, {} bytes: the largest is {largest}",
                sink.mtu
            )));
        }
        if packet_limits.is_empty() {
            packet_limits.extend(PACKET_LIMITS.map(|limit| limit.min(largest)));
            packet_limits.dedup();
        }
        Ok(Self {
            heap_sizes: bytes(&arguments.sizes),
            packet_limits,
            variants,
            repeat: arguments.repeat,
            time: arguments.seconds,
            left_out,
        })
    }

    /// How many measurements there will be.
    pub fn samples(&self) -> u64 {
        let rows = self.heap_sizes.len() * self.packet_limits.len() * self.variants.len();
        rows as u64 * u64::from(self.repeat) * 2
    }

    /// Measures all, and says before each measurement which it is.
    pub fn run(&self, mut next: impl FnMut(&str)) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for &packet_limit in &self.packet_limits {
            for &heap_bytes in &self.heap_sizes {
                let plan = plan(heap_bytes, packet_limit).map_err(StreamError::from)?;
                let what = format!("heaps of {}", binary(heap_bytes));
                rows.extend(self.side_by_side(&plan, heap_bytes, packet_limit, || next(&what))?);
            }
        }
        Ok(rows)
    }

    /// Measures all variants in turn, again and again: what disturbs, disturbs all of them.
    fn side_by_side(
        &self,
        plan: &Arc<Plan>,
        heap_bytes: usize,
        packet_limit: usize,
        mut next: impl FnMut(),
    ) -> Result<Vec<Row>, Failure> {
        struct Contestant {
            stamped: Box<dyn Load>,
            ready_made: Box<dyn Load>,
            sent: Vec<Sample>,
            ceiling: Vec<Sample>,
        }
        let mut contestants = Vec::with_capacity(self.variants.len());
        for variant in &self.variants {
            contestants.push(Contestant {
                stamped: variant.stamped(plan)?,
                ready_made: variant.ready_made(plan)?,
                sent: Vec::new(),
                ceiling: Vec::new(),
            });
        }
        for _ in 0..self.repeat {
            for contestant in &mut contestants {
                next();
                contestant.sent.push(Sample::take(contestant.stamped.as_mut(), self.time)?);
                next();
                contestant.ceiling.push(Sample::take(contestant.ready_made.as_mut(), self.time)?);
            }
        }
        let packet_size = plan.packets().iter().map(|packet| packet.len()).max().unwrap_or(0);
        let row = |(variant, contestant): (&Variant, &Contestant)| {
            let subject = Subject {
                backend: variant.backend,
                layout: variant.layout(),
                packet_limit,
                heap_bytes,
                heaps_per_batch: plan.heaps(),
                packet_size,
            };
            subject.row(&contestant.sent, &contestant.ceiling)
        };
        Ok(self.variants.iter().zip(&contestants).map(row).collect())
    }
}

/// A batch of heaps as those of the default stream: a timestamp and samples.
fn plan(heap_bytes: usize, limit: usize) -> Result<Arc<Plan>, PlanError> {
    let heap = HeapSpec::new().immediate(TIMESTAMP, 0).payload(DEFAULT_ITEM, heap_bytes);
    let heaps = (BATCH_BYTES / heap_bytes.max(1)).max(1);
    let size = PacketSize::Uniform { limit };
    Ok(Arc::new(Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, heaps).build()?))
}

/// In the order that they are given in, each once.
fn bytes(sizes: &[Size]) -> Vec<usize> {
    let mut bytes: Vec<usize> = Vec::new();
    for size in sizes.iter().map(|size| size.bytes() as usize) {
        if !bytes.contains(&size) {
            bytes.push(size);
        }
    }
    bytes
}

const BACKENDS: [BenchBackend; 2] = [BenchBackend::Udp, BenchBackend::Verbs];
/// What fits an IPv4 packet of 1500 bytes, and one of 9000.
const PACKET_LIMITS: [usize; 2] = [1472, 8972];
/// As `send` has it.
const BATCH_BYTES: usize = 512 << 10;
