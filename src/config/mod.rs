//! What to send, from a TOML file and flags.
//!
//! [`Options`] is what the user said, in a file ([`Options::from_toml`]) or as flags (it derives
//! [`clap::Args`]); [`Options::or`] puts the flags over the file. [`Config`] is what that comes to:
//! every default filled in, every conflict refused with the names of its keys.
//!
//! ```
//! use std::path::Path;
//! use doorbell::config::{Config, Options};
//!
//! let file = "[stream]\nto = '239.1.0.0+3:7148'\n[heap]\nsize = '64KiB'\n";
//! let config = Config::from_options(Options::from_toml(file, Path::new("stream.toml"))?)?;
//! assert_eq!(config.stream.destinations().count(), 4);
//! assert_eq!(config.batch.heaps, Some(8));
//! # Ok::<(), doorbell::config::ConfigError>(())
//! ```

#[doc(hidden)]
pub mod fuzz;

mod array;
mod constant;
mod endpoint;
mod error;
mod every;
mod file;
mod frames;
mod interface;
mod item;
mod options;
mod pack;
mod packet_size;
mod queue;
mod resolve;
mod senders;
mod source;
#[cfg(test)]
mod tests;

mod units;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use array::{ArrayType, ElementType};
pub use constant::{ConstantItem, ConstantValue};
pub use endpoint::{Endpoint, Host};
pub use error::{ConfigError, Key, Place};
pub use every::{Every, Span};
pub use frames::{FrameRate, Repeat};
pub use interface::Interface;
pub use item::{Item, ItemSpec};
pub use options::{
    BackendKind, BackendOptions, BatchOptions, CompletionKind, DescriptorPlacement, HeapOptions,
    LayoutKind, MonitorOptions, Options, PacingMode, PacingOptions, QueuePairKind, SourceOptions,
    StreamOptions,
};
pub use pack::{PackConfig, PackRange};
pub use packet_size::PacketSize;
pub use senders::{Rank, SendersConfig, SendersOptions, ShareKind};
pub use source::SourceKind;
pub use units::{Rate, Size};
pub use value::InvalidValue;

use crate::backend::udp::ZeroCopy;
use crate::pacer;
use crate::plan::Order;
use crate::wire::Flavour;
use crate::wire::ethernet::{MacAddress, Vlan};

/// A stream to send, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where the stream goes and what its packets look like.
    pub stream: StreamConfig,
    /// What a heap holds, and how many there are.
    pub heap: HeapConfig,
    /// Where payload comes from.
    pub source: SourceKind,
    /// How often files are sent.
    pub repeat: Repeat,
    /// What its samples are packed as; `None` sends them as they are.
    pub pack: Option<PackConfig>,
    /// How many heaps go together.
    pub batch: BatchConfig,
    /// How fast packets go.
    pub pacing: PacingConfig,
    /// The way onto the wire.
    pub backend: BackendConfig,
    /// Which share of the stream is this sender's, where there are several.
    pub senders: SendersConfig,
    /// Items that are the same in every heap.
    pub constants: Vec<ConstantItem>,
    /// What is said while the stream runs.
    pub monitor: MonitorConfig,
}

/// What is said while the stream runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorConfig {
    /// Time between lines of the log that say how the stream goes; `None` for no such lines.
    pub log_interval: Option<Duration>,
    /// Where figures are served to Prometheus; `None` if they are not.
    pub metrics: Option<SocketAddr>,
}

/// Where the stream goes and what its packets look like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// Destinations as they were written, all of one address family as far as they are addresses.
    /// None at all: the stream goes to its own receiver on loopback.
    pub to: Vec<Endpoint>,
    /// The longest packet, at least 56 bytes; [`StreamConfig::packet_size_within`] an MTU makes it
    /// what a plan takes.
    pub packet_size: PacketSize,
    /// The MTU to reckon with, in bytes of IP; `None` is the interface's.
    pub mtu: Option<u32>,
    /// The SPEAD flavour.
    pub flavour: Flavour,
    /// Whether every packet of a heap carries all its item pointers.
    pub repeat_pointers: bool,
    /// In which order the packets of a batch go.
    pub group: Order,
    /// Heap cnt of the first heap.
    pub cnt_start: u64,
    /// Heap cnts from one heap to the next, at least 1.
    pub cnt_step: u64,
    /// Time to live if it was given; [`StreamConfig::ttl_to`] knows the default.
    pub ttl: Option<u8>,
    /// VLAN tag of the frames; `None` is untagged.
    pub vlan: Option<Vlan>,
    /// Destination MAC address; `None` is found from the group or the neighbour.
    pub dst_mac: Option<MacAddress>,
    /// UDP source port, never 0; `None` is any free one.
    pub source_port: Option<u16>,
    /// For how long to send what says nothing before the stream begins.
    pub warm_up: Option<Span>,
}

impl StreamConfig {
    /// The destinations one by one, in the order of their substreams.
    pub fn destinations(&self) -> impl Iterator<Item = Endpoint> {
        self.to.iter().flat_map(Endpoint::expand)
    }

    /// The time to live of packets to `address`: the given one, else 1 for multicast and 64 for
    /// unicast, which are Linux's defaults (`ip(7)`).
    pub fn ttl_to(&self, address: IpAddr) -> u8 {
        self.ttl.unwrap_or(if address.is_multicast() { MULTICAST_TTL } else { UNICAST_TTL })
    }
}

/// What a heap holds, and how many there are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HeapConfig {
    /// What a heap holds.
    pub content: HeapContent,
    /// How many heaps to send, at least 1; `None` is as many as the source has.
    pub count: Option<u64>,
    /// Where descriptors travel.
    pub descriptors: DescriptorPlacement,
    /// How often they are sent again; `None` is never.
    pub descriptors_every: Option<Every>,
    /// Whether heaps are numbered by an item of their own.
    pub frame_number: bool,
}

/// What a heap holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeapContent {
    /// The items of the source, with this much payload: at least 1 byte, no more than the flavour can
    /// address.
    Size(Size),
    /// These items, at least one.
    Items(Vec<Item>),
    /// One index of the leading axis of the `.npy` file that is the source.
    Npy,
}

impl HeapContent {
    /// Bytes of payload in a heap, unless the file is yet to say.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Size(size) => Some(size.bytes()),
            Self::Items(items) => {
                Some(items.iter().fold(0, |sum, item| item.array().bytes().saturating_add(sum)))
            }
            Self::Npy => None,
        }
    }
}

/// How many heaps go together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchConfig {
    /// Heaps per batch, at least 1; a multiple of the number of destinations unless one batch holds
    /// the whole stream. `None` while the size of a heap is unknown ([`HeapContent::Npy`], packing): then
    /// [`BatchConfig::heaps_of`] tells once the file is open.
    pub heaps: Option<u32>,
    /// Batches in flight at once, at least 1.
    pub in_flight: u32,
    /// How packets lie in memory.
    pub layout: LayoutKind,
}

impl BatchConfig {
    /// Heaps per batch for heaps of `heap_bytes`, over `destinations`: the configured number, else
    /// about 512 KiB of them; never more than the `total` of the stream, if that is known.
    pub fn heaps_of(&self, heap_bytes: u64, destinations: u64, total: Option<u64>) -> u32 {
        let heaps = self.heaps.map_or_else(
            || (BATCH_BYTES / heap_bytes.max(1)).max(1).next_multiple_of(destinations.max(1)),
            u64::from,
        );
        let heaps = heaps.min(total.unwrap_or(u64::MAX)).max(1);
        u32::try_from(heaps).unwrap_or(u32::MAX)
    }
}

/// How fast packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacingConfig {
    /// The rate to keep to, at least 1 bit per second in bursts of at least 1 byte; `None` is as fast
    /// as it goes.
    pub rate: Option<pacer::Rate>,
    /// Who keeps to the rate.
    pub mode: PacingMode,
    /// Heaps a second, for each destination; `None` is as fast as it goes.
    pub frame_rate: Option<FrameRate>,
    /// Whether to wait while the receivers' sockets, on this machine, are full.
    pub hold_back: bool,
}

/// The way onto the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendConfig {
    /// Which backend.
    pub choice: BackendChoice,
    /// The network interface to send from; `None` is the route's.
    pub interface: Option<Interface>,
    /// The RDMA device; `None` is the interface's.
    pub device: Option<String>,
    /// Which queue pairs of it.
    pub qp: QueuePairKind,
    /// How to wait for the RDMA device.
    pub completion: CompletionKind,
    /// How long to look before sleeping, with [`CompletionKind::Event`].
    pub spin: Duration,
    /// Whether UDP and TCP send packets from where they lie.
    pub zerocopy: ZeroCopy,
    /// How long to try to connect again to a TCP receiver that is gone; zero is not at all.
    pub reconnect: Duration,
}

/// A backend with what it alone needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendChoice {
    /// The best that works here.
    Auto,
    /// RDMA verbs.
    Verbs,
    /// UDP sockets.
    Udp,
    /// TCP connections.
    Tcp,
    /// A capture file at this path.
    Pcap(PathBuf),
}

/// Half a mebibyte a batch: with two in flight, about 1 MiB together.
const BATCH_BYTES: u64 = 512 << 10;

/// What the kernel gives multicast unless told otherwise: packets stay on the local network.
const MULTICAST_TTL: u8 = 1;

/// What the kernel gives unicast unless told otherwise (`net.ipv4.ip_default_ttl`).
const UNICAST_TTL: u8 = 64;
