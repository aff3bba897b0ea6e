//! What may be configured by name.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::backend::udp::ZeroCopy;
use crate::pacer::Counted;
use crate::plan::Order;

/// Where descriptors travel.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DescriptorPlacement {
    /// In the first heap of each substream.
    #[default]
    First,
    /// In a heap of their own, before the first.
    Own,
}

/// Who keeps to the rate.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PacingMode {
    /// The hardware where it can, else software.
    #[default]
    Auto,
    /// The sending thread.
    Software,
    /// The network interface, or nothing is sent.
    Hardware,
    /// Nobody: as fast as it goes.
    None,
}

/// The way onto the wire, by name.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

/// Here and not beside the type, because plans know no command line.
impl ValueEnum for Order {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Serial, Self::RoundRobin]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Serial => "serial",
            Self::RoundRobin => "round-robin",
        }))
    }
}

/// Likewise: backends know no command line.
impl ValueEnum for ZeroCopy {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::On, Self::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }))
    }
}

/// Likewise.
impl ValueEnum for Counted {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Wire, Self::Payload]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Wire => "wire",
            Self::Payload => "payload",
        }))
    }
}

/// How packets lie in memory.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueuePairKind {
    /// Raw packets: Ethernet frames to UDP sockets.
    #[default]
    Raw,
    /// Unreliable datagrams: messages to other queues.
    Ud,
}

/// How to wait for completions of an RDMA device.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompletionKind {
    /// Look all the time.
    Poll,
    /// Look for a while, then sleep until the device interrupts.
    #[default]
    Event,
}
