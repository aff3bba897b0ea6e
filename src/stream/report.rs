//! What became of a stream.

use std::time::Duration;

use serde::Serialize;

use super::jitter::Jitter;
use super::ledger::{Destination, Figures};
use super::plan::StreamPlan;
use crate::pacer::Counted;

/// What became of a stream. Of the data heaps submitted, those not in `heaps_failed` were sent whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Which backend sent.
    pub backend: &'static str,
    /// Why that one.
    pub reason: String,
    /// Data heaps submitted.
    pub heaps: u64,
    /// Those of them that did not go out whole.
    pub heaps_failed: u64,
    /// Data heaps that were to be sent and never were submitted: the backend had failed, whoever fills had no
    /// more, or the stream was stopped. `heaps` does not count them.
    pub heaps_unsubmitted: u64,
    /// Heaps of descriptors and stream control that did not go out.
    pub others_failed: u64,
    /// Bytes of payload in the heaps that went out whole.
    pub payload_bytes: u64,
    /// Bytes of all packets, with Ethernet, IP and UDP headers; over TCP, bytes of the stream.
    pub wire_bytes: u64,
    /// All packets, those of descriptor and stop heaps included.
    pub packets: u64,
    /// The largest packet, in bytes of SPEAD.
    pub packet_size: usize,
    /// Calls that handed packets over.
    pub doorbells: u64,
    /// From the first heap to the last completion, in seconds.
    pub seconds: f64,
    /// Payload over time; 0 if that is less than a millisecond, which has no rate.
    pub payload_gbit_per_s: f64,
    /// Whole frames over time; 0 if that is less than a millisecond.
    pub wire_gbit_per_s: f64,
    /// The rate asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_gbit_per_s: Option<f64>,
    /// Which bytes count towards it: `wire` or `payload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_counts: Option<&'static str>,
    /// Who keeps to it: `hardware`, `software` or `none`.
    pub pacing: &'static str,
    /// How evenly packets went, as far as software kept to the rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Jitter>,
    /// Memory that the backend sends from, in bytes.
    pub pinned_bytes: u64,
    /// What backs that memory.
    pub pages: String,
    /// CPUs that threads are bound to: the one that posts, then the one that fills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<u32>,
    /// Packets in a message, on average.
    pub gso_segments_per_message: f64,
    /// Messages that the kernel refused to segment.
    pub gso_refused: u64,
    /// Messages sent from where they lay, without a copy of the kernel's.
    pub zerocopy_messages: u64,
    /// Messages that were to be sent so, and that the kernel copied.
    pub zerocopy_copied: u64,
    /// Times that the backend had no room.
    pub waits: u64,
    /// Bytes that the kernel took and no receiver acknowledged; only TCP knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unacknowledged_bytes: Option<u64>,
    /// Messages of ICMP that came back about packets, such as that nobody listens; only UDP hears of any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_errors: Option<u64>,
    /// Connections that were made anew; only TCP has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnects: Option<u64>,
    /// What became of the data heaps of each destination, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
}

impl Report {
    /// What is known of a stream before it is opened.
    pub(super) fn of(plan: &StreamPlan) -> Self {
        let rate = plan.settings.pacing.pacer_rate();
        let packets = plan.others().chain([plan.data()]).flat_map(|plan| plan.packets());
        Self {
            backend: plan.transport().backend(),
            reason: plan.transport().reason.clone(),
            packet_size: packets.map(|packet| packet.len()).max().unwrap_or(0),
            asked_gbit_per_s: rate.map(|rate| rate.bits_per_second as f64 * 1e-9),
            rate_counts: rate.map(|rate| match rate.counts {
                Counted::Wire => "wire",
                Counted::Payload => "payload",
            }),
            cpu: plan.settings.backend.cpu.clone(),
            ..Self::default()
        }
    }

    /// Data heaps that went out whole.
    pub fn sent(&self) -> u64 {
        self.heaps - self.heaps_failed
    }

    /// Whether all that was submitted went out whole, descriptors and stop heaps too, and was acknowledged
    /// where the protocol has that.
    pub fn is_success(&self) -> bool {
        self.heaps_failed == 0
            && self.others_failed == 0
            && self.unacknowledged_bytes.unwrap_or(0) == 0
    }

    /// Takes over what was counted.
    pub(super) fn count(&mut self, figures: &Figures, elapsed: Duration) {
        let counters = &figures.counters;
        self.heaps = figures.heaps;
        self.heaps_failed = figures.heaps_failed;
        self.payload_bytes = figures.payload_bytes;
        self.wire_bytes = figures.wire_bytes;
        self.doorbells = counters.doorbells;
        self.packets = counters.packets;
        self.gso_segments_per_message = counters.packets as f64 / counters.messages.max(1) as f64;
        self.gso_refused = counters.segmentation_refused;
        self.zerocopy_messages = counters.uncopied;
        self.zerocopy_copied = counters.copied;
        self.waits = counters.waits;
        let connected = self.backend == "tcp";
        self.unacknowledged_bytes = connected.then_some(counters.unacknowledged);
        self.icmp_errors = (self.backend == "udp").then_some(counters.icmp_errors);
        self.reconnects = connected.then_some(counters.reconnects);
        self.seconds = elapsed.as_secs_f64();
        // What is handed over at once says nothing of how fast more of it would go.
        let per_second = if self.seconds < SHORTEST { 0.0 } else { 8e-9 / self.seconds };
        self.payload_gbit_per_s = self.payload_bytes as f64 * per_second;
        self.wire_gbit_per_s = self.wire_bytes as f64 * per_second;
    }
}

/// In seconds.
const SHORTEST: f64 = 1e-3;
