//! What is chosen by name.

use super::setting::choices;
use crate::backend::udp::ZeroCopy;
use crate::pacer::Counted;
use crate::plan::Order;

/// Where descriptors travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DescriptorPlacement {
    /// In the first heap, beside its data; in a heap of their own where there are several substreams, heaps
    /// take turns, or payload is sent from where it lies.
    #[default]
    First,
    /// In a heap of their own, before the first.
    Own,
}

/// Who keeps to the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PacingMode {
    /// The hardware where it can, else software.
    #[default]
    Auto,
    /// The thread that posts.
    Software,
    /// The network interface, or nothing is sent.
    Hardware,
    /// Nobody: as fast as it goes.
    None,
}

/// The way onto the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendKind {
    /// The best that works here.
    #[default]
    Auto,
    /// RDMA verbs.
    Verbs,
    /// UDP sockets.
    Udp,
    /// TCP connections.
    Tcp,
    /// A capture file.
    Pcap,
    /// Nowhere.
    Null,
}

impl BackendKind {
    /// Whether it leads to a receiver.
    pub fn has_receiver(self) -> bool {
        !matches!(self, Self::Pcap | Self::Null)
    }
}

/// How packets lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayoutKind {
    /// Packed where payload is written, split where it lies in a file.
    #[default]
    Auto,
    /// Header and payload adjacent; payload from files is copied there.
    Packed,
    /// Headers and payload apart.
    Split,
}

/// Queue pairs of an RDMA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePairKind {
    /// Raw packets: Ethernet frames to UDP sockets.
    Raw,
    /// Unreliable datagrams: messages to other queues.
    Ud,
}

/// How to wait for completions of an RDMA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompletionKind {
    /// Look all the time.
    Poll,
    /// Look for a while, then sleep until the device interrupts.
    #[default]
    Event,
}

/// What senders share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareKind {
    /// Heaps: each takes one in turn, to all destinations.
    Heaps,
    /// Destinations: each takes one in turn, with the heaps that go there.
    Destinations,
    /// Files: each takes one in turn, whole.
    Files,
}

choices! {
    DescriptorPlacement: "first" => Self::First, "own" => Self::Own;
    PacingMode: "auto" => Self::Auto, "software" => Self::Software, "hardware" => Self::Hardware,
        "none" => Self::None;
    BackendKind: "auto" => Self::Auto, "verbs" => Self::Verbs, "udp" => Self::Udp, "tcp" => Self::Tcp,
        "pcap" => Self::Pcap, "null" => Self::Null;
    LayoutKind: "auto" => Self::Auto, "packed" => Self::Packed, "split" => Self::Split;
    QueuePairKind: "raw" => Self::Raw, "ud" => Self::Ud;
    CompletionKind: "poll" => Self::Poll, "event" => Self::Event;
    ShareKind: "heaps" => Self::Heaps, "destinations" => Self::Destinations, "files" => Self::Files;
    Order: "serial" => Self::Serial, "round-robin" => Self::RoundRobin;
    ZeroCopy: "auto" => Self::Auto, "on" => Self::On, "off" => Self::Off;
    Counted: "wire" => Self::Wire, "payload" => Self::Payload;
}
