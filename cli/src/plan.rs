//! `doorbell plan`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use doorbell::region::{Arrangement, Layout};
use doorbell::sender::Stop;
use doorbell::stream::StreamPlan;
use indicatif::{HumanBytes, HumanCount};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::Serialize;

use super::args::PlanArguments;
use super::exit::Failure;
use super::plural;
use super::setup::{LOOPBACK, Setup};

/// Shows what a send would use.
pub fn run(arguments: PlanArguments) -> Result<ExitCode, Failure> {
    let config = arguments.what.configuration()?;
    // A plan reads nothing: what is read as it comes has ended already.
    let stop = Stop::new().map_err(|error| Failure::Usage(error.to_string()))?;
    stop.raise();
    let Setup { source, plan, .. } = Setup::new(config, LOOPBACK, &stop)?;
    let summary = Summary::of(&plan, source.heap_len())?;
    if arguments.json {
        say!("{}", serde_json::to_string(&summary).map_err(|e| Failure::Usage(e.to_string()))?);
    } else {
        summary.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// What a stream needs; that of data heaps where not said otherwise.
#[derive(Serialize)]
struct Summary {
    backend: &'static str,
    reason: String,
    destinations: usize,
    /// Bytes of IP packet that the route carries.
    mtu: u32,
    /// The largest packet that fits the MTU, in bytes of SPEAD; null over TCP, which has no such limit.
    packet_limit: Option<usize>,
    heap_bytes: usize,
    /// Data heaps of the stream; null if the source does not say.
    heaps: Option<u64>,
    heaps_per_batch: u32,
    batches_in_flight: u32,
    packets_per_heap: u32,
    /// The largest packet of all, those with descriptors included, in bytes of SPEAD.
    packet_size: usize,
    packet_sizes: Vec<PacketSizes>,
    /// Bytes that are not payload, of all that are sent in packets.
    header_share: f64,
    layout: &'static str,
    /// Pieces of memory that make up a packet.
    pieces_per_packet: u32,
    packets_per_batch: usize,
    /// Messages to the kernel: each a run of equal packets, or over TCP all that go to one destination.
    messages_per_batch: usize,
    longest_run: usize,
    doorbells_per_batch: usize,
    /// Memory of all batches.
    pinned_bytes: usize,
    /// RLIMIT_MEMLOCK; null is no limit.
    memlock_bytes: Option<u64>,
}

#[derive(Serialize)]
struct PacketSizes {
    bytes: usize,
    packets_per_heap: u32,
}

impl Summary {
    fn of(stream: &StreamPlan, heap_bytes: usize) -> Result<Self, Failure> {
        let (plan, transport, layout) = (stream.data(), stream.transport(), stream.layout());
        let batches = stream.batches();
        let messages = transport.messages(plan, layout);
        let size = |plan, layout, batches: u32| {
            let arrangement = Arrangement::new(plan, layout, transport.placement());
            let arrangement = arrangement.map_err(|error| Failure::Allocate(error.into()))?;
            Ok::<_, Failure>(arrangement.batch_len() * batches as usize)
        };
        let mut pinned_bytes = size(plan, layout, batches)?;
        for other in stream.others() {
            pinned_bytes += size(other, Layout::Packed, 1)?;
        }
        let mut sizes = BTreeMap::new();
        for packet in plan.packets().iter().filter(|packet| packet.heap == 0) {
            *sizes.entry(packet.len()).or_insert(0) += 1;
        }
        let all = stream.others().chain([plan]).flat_map(|plan| plan.packets());
        let total = plan.bytes_of_first(1);
        Ok(Self {
            backend: transport.backend(),
            reason: transport.reason.clone(),
            destinations: stream.destinations().len(),
            mtu: transport.mtu,
            packet_limit: stream.packet_limit(),
            heap_bytes,
            heaps: stream.heaps(),
            heaps_per_batch: plan.heaps(),
            batches_in_flight: stream.settings().batch.in_flight,
            packets_per_heap: plan.packets_of_heap(0),
            packet_size: all.map(|packet| packet.len()).max().unwrap_or(0),
            packet_sizes: sizes
                .into_iter()
                .rev()
                .map(|(bytes, packets_per_heap)| PacketSizes { bytes, packets_per_heap })
                .collect(),
            header_share: (total - heap_bytes as u64) as f64 / total as f64,
            layout: match layout {
                Layout::Packed => "packed",
                Layout::Split => "split",
                Layout::Attached => "attached",
            },
            pieces_per_packet: if layout == Layout::Packed { 1 } else { 2 },
            packets_per_batch: plan.packets().len(),
            messages_per_batch: messages.len(),
            longest_run: messages.iter().copied().max().unwrap_or(0),
            doorbells_per_batch: transport.doorbells(plan.packets().len(), messages.len(), layout),
            pinned_bytes,
            memlock_bytes: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .map(|(soft, _)| soft)
                .filter(|&soft| soft != RLIM_INFINITY),
        })
    }

    fn print(&self) {
        let row = |name: &str, value: String| say!("{name:<12}{value}");
        let count = |value: usize| HumanCount(value as u64);
        row("backend", format!("{} ({})", self.backend, self.reason));
        let limit = match self.packet_limit {
            Some(limit) => format!("packets of up to {limit} bytes of SPEAD"),
            None => "a stream of bytes, whatever the packets".to_owned(),
        };
        row(
            "route",
            format!(
                "{}, MTU {} bytes: {limit}",
                plural(self.destinations as u64, "destination"),
                self.mtu
            ),
        );
        row(
            "heap",
            format!(
                "{} of payload in {}",
                HumanBytes(self.heap_bytes as u64),
                plural(self.packets_per_heap.into(), "packet")
            ),
        );
        let sizes: Vec<String> = self
            .packet_sizes
            .iter()
            .map(|size| format!("{} x {} bytes", size.packets_per_heap, size.bytes))
            .collect();
        let share = 100.0 * self.header_share;
        row(
            "packets",
            format!(
                "{}; {share:.1}% headers; up to {} bytes of any",
                sizes.join(", "),
                self.packet_size
            ),
        );
        row(
            "batch",
            format!(
                "{}, {}, {} in flight, {}",
                plural(self.heaps_per_batch.into(), "heap"),
                plural(self.packets_per_batch as u64, "packet"),
                self.batches_in_flight,
                self.layout
            ),
        );
        row(
            "messages",
            format!(
                "{} a batch, runs of up to {}",
                count(self.messages_per_batch),
                plural(self.longest_run as u64, "packet")
            ),
        );
        row("doorbells", format!("{} a batch", self.doorbells_per_batch));
        let limit = match self.memlock_bytes {
            Some(limit) => format!("RLIMIT_MEMLOCK is {}", HumanBytes(limit)),
            None => "RLIMIT_MEMLOCK sets no limit".into(),
        };
        row("memory", format!("{}; {limit}", HumanBytes(self.pinned_bytes as u64)));
        if let Some(heaps) = self.heaps {
            let batches = heaps.div_ceil(u64::from(self.heaps_per_batch));
            row(
                "stream",
                format!("{} heaps in {} batches", HumanCount(heaps), HumanCount(batches)),
            );
        }
    }
}
