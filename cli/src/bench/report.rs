//! What was measured, for people and for programs.

use serde::Serialize;

use super::measure::{Sample, Spread};
use super::sink::Sink;

/// A whole sweep. Serialised, it is what `bench --json` prints.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    pub sink: SinkReport,
    /// Length of each measurement.
    pub seconds: f64,
    /// Measurements of each row, of which medians are taken.
    pub repeat: u32,
    /// What was not measured, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    pub rows: Vec<Row>,
}

/// Where packets ended.
#[derive(Debug, Serialize)]
pub struct SinkReport {
    pub kind: &'static str,
    pub description: String,
    pub address: String,
    /// Bytes of IP packet.
    pub mtu: u32,
}

impl From<Sink> for SinkReport {
    fn from(sink: Sink) -> Self {
        Self {
            kind: sink.kind,
            description: sink.description,
            address: sink.address.to_string(),
            mtu: sink.mtu,
        }
    }
}

/// One way to send heaps of one size.
#[derive(Debug, Serialize)]
pub struct Row {
    pub backend: &'static str,
    pub layout: &'static str,
    /// The largest packet allowed, in bytes of SPEAD.
    pub packet_limit: usize,
    /// Bytes of payload.
    pub heap_bytes: usize,
    pub heaps_per_batch: u32,
    /// The largest packet that the plan makes, in bytes of SPEAD.
    pub packet_size: usize,
    /// Payload.
    pub gb_per_s: Spread,
    /// The same with ready-made packets, that nobody stamps or accounts for.
    pub ceiling_gb_per_s: Spread,
    /// Throughput as a share of the ceiling in the same round.
    pub of_ceiling: Spread,
    pub packets_per_s: f64,
    /// User and system time of the sending thread.
    pub cpu_seconds_per_gb: f64,
    /// How much of the time the thread ran; less if it had to wait, or others had the core.
    pub core_share: f64,
    /// Calls that hand packets over.
    pub doorbells_per_batch: f64,
    pub packets_per_message: f64,
}

/// What a row is about, before it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub backend: &'static str,
    pub layout: &'static str,
    pub packet_limit: usize,
    pub heap_bytes: usize,
    pub heaps_per_batch: u32,
    pub packet_size: usize,
}

impl Subject {
    /// A row of what was measured in each round.
    pub fn row(self, sent: &[Sample], ceiling: &[Sample]) -> Row {
        let payload = self.heap_bytes as f64 * f64::from(self.heaps_per_batch);
        let rate = |sample: &Sample| payload * sample.batches as f64 * 1e-9 / sample.seconds;
        let median = |of: fn(&Sample) -> f64| Spread::of(sent.iter().map(of)).median;
        Row {
            gb_per_s: Spread::of(sent.iter().map(rate)),
            ceiling_gb_per_s: Spread::of(ceiling.iter().map(rate)),
            of_ceiling: Spread::of(sent.iter().zip(ceiling).map(|(s, c)| rate(s) / rate(c))),
            packets_per_s: median(|sample| sample.packets as f64 / sample.seconds),
            cpu_seconds_per_gb: median(|sample| sample.cpu_seconds / sample.batches as f64)
                / (payload * 1e-9),
            core_share: median(|sample| sample.cpu_seconds / sample.seconds),
            doorbells_per_batch: median(|sample| sample.doorbells as f64 / sample.batches as f64),
            packets_per_message: median(|sample| sample.packets as f64 / sample.messages as f64),
            backend: self.backend,
            layout: self.layout,
            packet_limit: self.packet_limit,
            heap_bytes: self.heap_bytes,
            heaps_per_batch: self.heaps_per_batch,
            packet_size: self.packet_size,
        }
    }
}

impl BenchReport {
    /// How much of a core the sending thread had, in the middle row.
    pub fn core_share(&self) -> f64 {
        Spread::of(self.rows.iter().map(|row| row.core_share)).median
    }
}

impl Row {
    /// Backend and layout.
    pub fn name(&self) -> String {
        format!("{} {}", self.backend, self.layout)
    }
}

/// `512 B`, `4 KiB`, `1.5 MiB`.
pub fn binary(bytes: usize) -> String {
    let (scale, unit) = match bytes.checked_ilog2().unwrap_or(0) {
        0..10 => return format!("{bytes} B"),
        10..20 => (1024.0, "KiB"),
        20..30 => (1_048_576.0, "MiB"),
        30.. => (1_073_741_824.0, "GiB"),
    };
    let text = format!("{:.1}", bytes as f64 / scale);
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}
