//! What to send from, and where to.

use std::time::Duration;

use super::queue_address::QueueAddress;
use crate::region::Placement;
use crate::wire::FrameHeader;

/// Which device to send from, and where to.
#[derive(Clone, Debug)]
pub struct VerbsConfig {
    /// Name of the device, such as `mlx5_0`.
    pub device: String,
    /// Its port, from 1.
    pub port: u8,
    /// Where the packets of each flow go.
    pub flows: Flows,
    /// Bytes of IP packet that the routes carry; for datagrams, bytes of the longest message.
    pub mtu: u32,
    /// Packets that are to be in flight at most; fewer where the device's queues are shorter.
    pub depth: u32,
    /// Pieces of memory that a packet has at most: 1 for packed regions, 2 for others.
    pub pieces: u32,
    /// How to wait for completions.
    pub completion: CompletionMode,
}

/// Where the packets of each flow go, and by which kind of queue pair.
#[derive(Clone, Debug)]
pub enum Flows {
    /// Ethernet frames with these headers, all of one length: raw packets, to UDP sockets.
    Frames(Vec<FrameHeader>),
    /// Messages to other queues: unreliable datagrams.
    Datagrams(Datagrams),
}

/// Messages to queues, all from one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Where those of each flow go.
    pub queues: Vec<QueueAddress>,
    /// Index of the address that each comes from, in the port's table.
    pub gid_indices: Vec<u8>,
    /// Time to live; 1 for multicast and 64 for unicast unless given.
    pub ttl: Option<u8>,
    /// Bytes that headers and check sums of the link and of RDMA add to a message.
    pub overhead: usize,
}

impl Flows {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Frames(headers) => headers.len(),
            Self::Datagrams(datagrams) => datagrams.queues.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each packet by itself; of frames, behind the headers that make it one.
    pub fn placement(&self) -> Placement {
        match self {
            Self::Frames(headers) => {
                Placement::one_by_one(headers.first().map_or(0, FrameHeader::len))
            }
            Self::Datagrams(_) => Placement::ADJACENT,
        }
    }
}

/// How to wait for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionMode {
    /// Look for them all the time.
    Poll,
    /// Look for so long, then sleep until the device interrupts.
    Event {
        /// How long to look before going to sleep.
        spin: Duration,
    },
}

impl CompletionMode {
    /// How long to look unless told otherwise: a few batches at 100 Gb/s, and less than it costs to sleep and
    /// be woken up.
    pub const SPIN: Duration = Duration::from_micros(100);
}

impl Default for CompletionMode {
    fn default() -> Self {
        Self::Event { spin: Self::SPIN }
    }
}

/// As in `--backend`.
pub(crate) const NAME: &str = "verbs";
