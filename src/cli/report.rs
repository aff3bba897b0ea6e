//! What is said at the end, for people and for programs.

use std::time::Duration;

use doorbell::backend::Counters;
use doorbell::receive::Received;
use doorbell::source::Loss;
use indicatif::{HumanBytes, HumanCount};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::Serialize;

use super::destinations::Destination;
use super::jitter::Jitter;
use super::nic::DeviceCounters;
use super::plural;

/// What became of a stream. Serialised, it is the last line of `send --json`.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Which backend sent.
    pub backend: &'static str,
    /// Why that one.
    pub reason: String,
    /// Data heaps submitted.
    pub heaps: u64,
    /// Those of them that did not go out whole.
    pub heaps_failed: u64,
    /// Data heaps that were to be sent and never were submitted: the backend had failed, the source had
    /// ended, or the program was interrupted. `heaps` does not count them.
    pub heaps_unsubmitted: u64,
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
    /// From the first submit to the last completion.
    pub seconds: f64,
    /// Payload over time.
    pub payload_gbit_per_s: f64,
    /// Whole frames over time.
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
    /// CPU time in user space, all threads.
    pub user_seconds: f64,
    /// CPU time in the kernel, all threads.
    pub system_seconds: f64,
    /// Memory that the backend sends from.
    pub pinned_bytes: u64,
    /// What backs that memory.
    pub pages: String,
    /// Samples that did not keep their values when they were packed.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
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
    /// Connections that were made anew; only TCP has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnects: Option<u64>,
    /// What became of the data heaps of each destination, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
    /// What the device says that it sent meanwhile, for this program and all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceCounters>,
    /// What the receiver on loopback got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Received>,
}

impl Report {
    /// Takes over what the backend counted.
    pub fn count(&mut self, counters: &Counters, overhead: usize, spead_bytes: u64) {
        self.doorbells = counters.doorbells;
        self.packets = counters.packets;
        self.wire_bytes = spead_bytes + counters.packets * overhead as u64;
        self.gso_segments_per_message = counters.packets as f64 / counters.messages.max(1) as f64;
        self.gso_refused = counters.segmentation_refused;
        self.zerocopy_messages = counters.uncopied;
        self.zerocopy_copied = counters.copied;
        self.waits = counters.waits;
        let connected = self.backend == "tcp";
        self.unacknowledged_bytes = connected.then_some(counters.unacknowledged);
        self.reconnects = connected.then_some(counters.reconnects);
    }

    /// Takes over how long it took, and what that cost.
    pub fn time(&mut self, elapsed: Duration, cost: &Cost) {
        self.seconds = elapsed.as_secs_f64();
        self.payload_gbit_per_s = self.payload_bytes as f64 * 8e-9 / self.seconds.max(1e-9);
        self.wire_gbit_per_s = self.wire_bytes as f64 * 8e-9 / self.seconds.max(1e-9);
        let now = Cost::now();
        self.user_seconds = now.user - cost.user;
        self.system_seconds = now.system - cost.system;
    }

    /// Whether every heap went out and, if there was a receiver, arrived.
    pub fn is_success(&self) -> bool {
        let arrived = self.received.as_ref().is_none_or(|received| {
            received.heaps == self.heaps && received.incomplete == 0 && received.mismatched == 0
        });
        self.heaps_failed == 0 && arrived && self.unacknowledged_bytes.unwrap_or(0) == 0
    }

    /// Says it in words.
    pub fn print(&self) {
        let sent = self.heaps - self.heaps_failed;
        say!(
            "sent      {}, {} in {:.3} s: {:.2} Gb/s of payload",
            plural(sent, "heap"),
            HumanBytes(self.payload_bytes),
            self.seconds,
            self.payload_gbit_per_s
        );
        say!(
            "          {} of up to {} bytes, {:.1} a message, {}, {:.3} s of CPU",
            plural(self.packets, "packet"),
            self.packet_size,
            self.gso_segments_per_message,
            plural(self.doorbells, "doorbell"),
            self.user_seconds + self.system_seconds
        );
        if let Some(asked) = self.asked_gbit_per_s {
            let (achieved, counted) = match self.rate_counts {
                Some("payload") => (self.payload_gbit_per_s, "of payload"),
                _ => (self.wire_gbit_per_s, "on the wire"),
            };
            say!(
                "          at {achieved:.3} Gb/s {counted}, {asked:.3} asked for, paced by {}",
                self.pacing
            );
        }
        if let Some(jitter) = &self.jitter {
            say!("jitter    {jitter}");
        }
        say!("          from {} of memory on {}", HumanBytes(self.pinned_bytes), self.pages);
        if self.gso_refused > 0 {
            say!(
                "          {} messages were refused by the kernel, and sent packet by packet",
                HumanCount(self.gso_refused)
            );
        }
        if let Some(loss) = self.loss.filter(|loss| !loss.is_none()) {
            say!(
                "packed    {} samples were clipped, {} were not a number",
                HumanCount(loss.clipped),
                HumanCount(loss.not_a_number)
            );
        }
        if self.heaps_failed > 0 {
            say!("failed    {} heaps did not go out whole", HumanCount(self.heaps_failed));
        }
        if self.heaps_unsubmitted > 0 {
            say!("          {} never were submitted", plural(self.heaps_unsubmitted, "heap"));
        }
        // Of many, those that lack something.
        let all = self.destinations.len() <= DESTINATIONS_SHOWN;
        for it in self.destinations.iter().filter(|it| all || it.heaps_failed > 0) {
            say!(
                "          {} of {} to {}",
                HumanCount(it.heaps - it.heaps_failed),
                plural(it.heaps, "heap"),
                it.to
            );
        }
        if let Some(device) = &self.device {
            say!("device    {device}");
        }
        if let Some(bytes) = self.unacknowledged_bytes.filter(|&bytes| bytes > 0) {
            say!(
                "unsure    {} bytes of heaps that count as sent were not acknowledged",
                HumanCount(bytes)
            );
        }
        let Some(received) = &self.received else { return };
        if self.is_success() {
            say!("received  {}, every byte as it was sent", plural(received.heaps, "heap"));
        } else {
            say!(
                "received  {} heaps whole, {} incomplete, {} with wrong bytes, of {} sent",
                HumanCount(received.heaps),
                HumanCount(received.incomplete),
                HumanCount(received.mismatched),
                HumanCount(sent)
            );
        }
    }
}

/// CPU time of the process so far, in seconds.
pub struct Cost {
    user: f64,
    system: f64,
}

impl Cost {
    /// What getrusage(2) says; nothing, should it fail.
    pub fn now() -> Self {
        let seconds = |time: fn(&Usage) -> TimeVal| {
            getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
                let time = time(&usage);
                time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6
            })
        };
        Self { user: seconds(Usage::user_time), system: seconds(Usage::system_time) }
    }
}

/// More would push the rest off the screen.
const DESTINATIONS_SHOWN: usize = 16;
