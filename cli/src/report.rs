//! What is said at the end, for people and for programs.

use doorbell::pack::Loss;
use indicatif::{HumanBytes, HumanCount};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::Serialize;

use super::listener::Received;
use super::nic::DeviceCounters;
use super::{plural, quantity};

/// What became of a stream, and of what is around it. Serialised, it is what `send --json` prints.
#[derive(Debug, Default, Serialize)]
pub struct SendReport {
    /// What the library says.
    #[serde(flatten)]
    pub stream: doorbell::stream::Report,
    /// CPU time in user space, all threads.
    pub user_seconds: f64,
    /// CPU time in the kernel, all threads.
    pub system_seconds: f64,
    /// Samples that did not keep their values when they were packed.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What the device says that it sent meanwhile, for this program and all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceCounters>,
    /// What the receiver on loopback got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Received>,
}

impl SendReport {
    /// Takes over what it cost since.
    pub fn cost(&mut self, since: &Cost) {
        let now = Cost::now();
        self.user_seconds = now.user - since.user;
        self.system_seconds = now.system - since.system;
    }

    /// Whether every heap went out and, if there was a receiver, arrived.
    pub fn is_success(&self) -> bool {
        let arrived = self.received.as_ref().is_none_or(|received| {
            received.heaps == self.stream.heaps
                && received.incomplete == 0
                && received.mismatched == 0
        });
        self.stream.is_success() && arrived
    }

    /// Says it in words.
    pub fn print(&self) {
        let stream = &self.stream;
        let sent = stream.sent();
        let rate = quantity::rate_over(stream.payload_bytes, stream.seconds);
        say!(
            "sent      {}, {} in {}{}",
            plural(sent, "heap"),
            HumanBytes(stream.payload_bytes),
            quantity::time(stream.seconds),
            rate.map_or_else(String::new, |rate| format!(": {rate} of payload"))
        );
        say!(
            "          {} of up to {} bytes, {:.1} a message, {}, {} of CPU",
            plural(stream.packets, "packet"),
            stream.packet_size,
            stream.gso_segments_per_message,
            plural(stream.doorbells, "doorbell"),
            quantity::time(self.user_seconds + self.system_seconds)
        );
        if let Some(asked) = stream.asked_gbit_per_s {
            let (achieved, counted) = match stream.rate_counts {
                Some("payload") => (stream.payload_gbit_per_s, "of payload"),
                _ => (stream.wire_gbit_per_s, "on the wire"),
            };
            say!(
                "          at {} {counted}, {} asked for, paced by {}",
                quantity::rate(achieved),
                quantity::rate(asked),
                stream.pacing
            );
        }
        if let Some(jitter) = &stream.jitter {
            say!("jitter    {jitter}");
        }
        if let [sending, filling @ ..] = stream.cpu.as_slice() {
            let filling =
                filling.first().map_or(String::new(), |cpu| format!(", filled on CPU {cpu}"));
            say!("          posted on CPU {sending}{filling}");
        }
        say!("          from {} of memory on {}", HumanBytes(stream.pinned_bytes), stream.pages);
        if stream.gso_refused > 0 {
            say!(
                "          {} messages were refused by the kernel, and sent packet by packet",
                HumanCount(stream.gso_refused)
            );
        }
        if let Some(loss) = self.loss.filter(|loss| !loss.is_none()) {
            say!(
                "packed    {} samples were clipped, {} were not a number",
                HumanCount(loss.clipped),
                HumanCount(loss.not_a_number)
            );
        }
        if stream.heaps_failed > 0 {
            say!("failed    {} heaps did not go out whole", HumanCount(stream.heaps_failed));
        }
        if stream.heaps_unsubmitted > 0 {
            say!("          {} never were submitted", plural(stream.heaps_unsubmitted, "heap"));
        }
        // Of many, those that lack something.
        let all = stream.destinations.len() <= DESTINATIONS_SHOWN;
        for it in stream.destinations.iter().filter(|it| all || it.heaps_failed > 0) {
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
        if let Some(bytes) = stream.unacknowledged_bytes.filter(|&bytes| bytes > 0) {
            say!(
                "unsure    {} bytes of heaps that count as sent were not acknowledged",
                HumanCount(bytes)
            );
        }
        if let Some(errors) = stream.icmp_errors.filter(|&errors| errors > 0) {
            let verb = if errors == 1 { "is" } else { "are" };
            say!(
                "lost      {} came back by ICMP: there {verb} packets that nobody takes in, see the warnings",
                plural(errors, "error")
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
