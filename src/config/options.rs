//! What may be configured: one declaration that serves as flags and as TOML.
//!
//! The id of every flag is its key in the file, `section.key`.

use std::net::SocketAddr;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::value::{choice, number, text, texts};
use super::{
    BackendKind, CompletionKind, ConstantItem, DescriptorPlacement, Endpoint, Every, Interface,
    ItemSpec, LayoutKind, PacingOptions, PackRange, PacketSize, QueuePairKind, Repeat,
    SendersOptions, Size, SourceKind, Span,
};
use crate::backend::udp::ZeroCopy;
use crate::plan::Order;
use crate::source::PackFormat;
use crate::wire::{Flavour, MacAddress};

/// Everything that may be configured, as far as it was.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where the stream goes and what its packets look like.
    #[command(flatten)]
    pub stream: StreamOptions,
    /// What a heap holds.
    #[command(flatten)]
    pub heap: HeapOptions,
    /// Where payload comes from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// How many heaps go together.
    #[command(flatten)]
    pub batch: BatchOptions,
    /// How fast packets go.
    #[command(flatten)]
    pub pacing: PacingOptions,
    /// The way onto the wire.
    #[command(flatten)]
    pub backend: BackendOptions,
    /// What is said while the stream runs.
    #[command(flatten)]
    pub monitor: MonitorOptions,
    /// Which share of the stream is this sender's.
    #[command(flatten)]
    pub senders: SendersOptions,
    /// Items that are the same in every heap: `[[item]]`, in a file alone.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub item: Vec<ConstantItem>,
}

/// The section `[stream]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Stream")]
#[serde(default, deny_unknown_fields)]
pub struct StreamOptions {
    /// Send to HOST:PORT, one substream each; 239.1.0.0+3:7148 is four addresses; may be repeated
    /// [default: a verifying receiver on loopback]
    #[arg(id = "stream.to", long = "to", value_name = "HOST:PORT")]
    #[serde(with = "texts")]
    pub to: Option<Vec<Endpoint>>,

    /// Longest packet in bytes of SPEAD, without network headers [default: auto, equal packets within
    /// the MTU; over TCP, within 64KiB]
    #[arg(id = "stream.packet_size", long = "packet-size", value_name = "auto|BYTES")]
    #[serde(with = "text")]
    pub packet_size: Option<PacketSize>,

    /// MTU of the path [default: the interface's]
    #[arg(id = "stream.mtu", long = "mtu", value_name = "BYTES")]
    #[serde(deserialize_with = "number")]
    pub mtu: Option<u32>,

    /// SPEAD flavour: 64 bits, of which N are the address [default: 64-40]
    #[arg(id = "stream.flavour", long = "flavour", value_name = "64-N")]
    #[serde(with = "text")]
    pub flavour: Option<Flavour>,

    /// Repeat all item pointers in every packet of a heap [default: false]
    #[arg(
        id = "stream.repeat_pointers",
        long = "repeat-pointers",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub repeat_pointers: Option<bool>,

    /// Order of the packets of a batch: heap after heap, destination by destination, or one of each heap in
    /// turn [default: serial]
    #[arg(
        id = "stream.group",
        long = "group",
        value_name = "serial|round-robin",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub group: Option<Order>,

    /// Heap cnt of the first heap [default: 1]
    #[arg(id = "stream.cnt_start", long = "cnt-start", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub cnt_start: Option<u64>,

    /// Heap cnts from one heap to the next; senders that share a stream stride [default: 1]
    #[arg(id = "stream.cnt_step", long = "cnt-step", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub cnt_step: Option<u64>,

    /// Time to live, or IPv6 hop limit [default: 1 multicast, 64 unicast]
    #[arg(id = "stream.ttl", long = "ttl", value_name = "HOPS")]
    #[serde(deserialize_with = "number")]
    pub ttl: Option<u8>,

    /// VLAN id of the frames, for backends that build frames [default: untagged]
    #[arg(id = "stream.vlan", long = "vlan", value_name = "1..4094")]
    #[serde(deserialize_with = "number")]
    pub vlan: Option<u16>,

    /// Destination MAC address, for backends that build frames [default: from the group or neighbour]
    #[arg(id = "stream.dst_mac", long = "dst-mac", value_name = "MAC")]
    #[serde(with = "text")]
    pub dst_mac: Option<MacAddress>,

    /// UDP or TCP source port [default: any free one]
    #[arg(id = "stream.source_port", long = "source-port", value_name = "PORT")]
    #[serde(deserialize_with = "number")]
    pub source_port: Option<u16>,

    /// Send heaps that say nothing, ten a second, for so long before the stream begins, for networks that
    /// learn slowly where packets go [default: none]
    #[arg(id = "stream.warm_up", long = "warm-up", value_name = "TIME")]
    #[serde(with = "text")]
    pub warm_up: Option<Span>,
}

/// The section `[heap]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Heaps")]
#[serde(default, deny_unknown_fields)]
pub struct HeapOptions {
    /// Payload of a heap, such as 8192 or 1MiB [default: 8KiB]
    #[arg(id = "heap.size", long = "heap-size", value_name = "SIZE")]
    #[serde(with = "text")]
    pub size: Option<Size>,

    /// Number of heaps [default: 65536, or all of the file]
    #[arg(id = "heap.count", long = "heaps", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub count: Option<u64>,

    /// The items of a heap, in place of its size.
    #[arg(
        id = "heap.items",
        long = "items",
        help = "Items of a heap, such as adc_x:i8[4096],0x3400=w:<f4[16x2], in place of --heap-size [default: \
                one of --heap-size]",
        value_name = "[ID=]NAME:TYPE[DIMS]",
        value_delimiter = ','
    )]
    #[serde(with = "texts")]
    pub items: Option<Vec<ItemSpec>>,

    /// Send descriptors in the first heap or in a heap of their own [default: first]
    #[arg(
        id = "heap.descriptors",
        long = "descriptors",
        value_name = "first|own",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub descriptors: Option<DescriptorPlacement>,

    /// Send descriptors again after so many heaps, or so much time, for receivers that join late [default:
    /// never]
    #[arg(id = "heap.descriptors_every", long = "descriptors-every", value_name = "HEAPS|TIME")]
    #[serde(with = "text")]
    pub descriptors_every: Option<Every>,

    /// Number heaps from 0 on by an item of their own, 0x1601 frame_number [default: false]
    #[arg(
        id = "heap.frame_number",
        long = "frame-number",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub frame_number: Option<bool>,
}

/// The section `[source]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Source")]
#[serde(default, deny_unknown_fields)]
pub struct SourceOptions {
    /// Payload: pattern, random:SEED, a .npy file, any other file or FIFO, or - for standard input; may be
    /// repeated for several files, or be a pattern such as 'frames/*.npy' [default: pattern]
    #[arg(id = "source.kind", long = "source", value_name = "SOURCE", allow_hyphen_values = true)]
    #[serde(with = "texts")]
    pub kind: Option<Vec<SourceKind>>,

    /// Type of the samples of a raw file, a FIFO or standard input, such as '<f4' or u10, with
    /// --shape [default: bytes, unless --items names others]
    #[arg(id = "source.dtype", long = "dtype", value_name = "TYPE")]
    pub dtype: Option<String>,

    /// Shape of a frame, each a heap, such as 2160x3840x3; of raw samples with --dtype [default: a heap's
    /// size; of .npy files, all axes but the first]
    #[arg(id = "source.shape", long = "shape", value_name = "DIMS")]
    pub shape: Option<String>,

    /// Send files N times, or for ever [default: 1]
    #[arg(
        id = "source.repeat",
        long = "repeat",
        value_name = "N|forever",
        num_args = 0..=1,
        default_missing_value = "forever"
    )]
    #[serde(with = "text")]
    pub repeat: Option<Repeat>,

    /// Convert the samples of a .npy file, or of a raw file's only item, to packed integers or floats
    /// [default: send them as they are]
    #[arg(id = "source.pack", long = "pack", value_name = "u8|u10|u12|u14|u16|f16|f32")]
    #[serde(with = "text")]
    pub pack: Option<PackFormat>,

    /// Values that the packed integers stand for [default: auto, those of the first heap]
    #[arg(
        id = "source.range",
        long = "range",
        value_name = "auto|LOW..HIGH",
        allow_hyphen_values = true
    )]
    #[serde(with = "text")]
    pub range: Option<PackRange>,
}

/// The section `[batch]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Batches")]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// Heaps per batch, sent with one doorbell [default: about 512KiB of them]
    #[arg(id = "batch.heaps", long = "batch-heaps", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub heaps: Option<u32>,

    /// Batches in flight at once [default: 2]
    #[arg(id = "batch.in_flight", long = "in-flight", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub in_flight: Option<u32>,

    /// Header and payload adjacent in memory, or apart [default: auto, packed but for files, which are
    /// sent from where they lie]
    #[arg(
        id = "batch.layout",
        long = "layout",
        value_name = "auto|packed|split",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub layout: Option<LayoutKind>,
}

/// The section `[backend]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Backend")]
#[serde(default, deny_unknown_fields)]
pub struct BackendOptions {
    /// Way onto the wire; a named one never falls back [default: auto]
    #[arg(
        id = "backend.kind",
        long = "backend",
        value_name = "auto|verbs|udp|tcp|pcap",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub kind: Option<BackendKind>,

    /// Network interface to send from, by name or address [default: by route]
    #[arg(id = "backend.interface", long = "interface", value_name = "NAME|ADDR")]
    #[serde(with = "text")]
    pub interface: Option<Interface>,

    /// RDMA device, such as mlx5_0, for backends that build frames [default: the interface's]
    #[arg(id = "backend.device", long = "device", value_name = "DEVICE")]
    pub device: Option<String>,

    /// Queue pairs of an RDMA device: raw, frames to UDP sockets; or ud, datagrams to other queues, on any
    /// device [default: ud if --to is a queue]
    #[arg(id = "backend.qp", long = "qp", value_name = "raw|ud", hide_possible_values = true)]
    #[serde(with = "choice")]
    pub qp: Option<QueuePairKind>,

    /// How to wait for an RDMA device: look all the time, or look for a while and then sleep [default:
    /// event]
    #[arg(
        id = "backend.completion",
        long = "completion",
        value_name = "poll|event",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub completion: Option<CompletionKind>,

    /// How long to look before sleeping, with --completion event [default: 100]
    #[arg(id = "backend.spin_us", long = "spin-us", value_name = "MICROSECONDS")]
    #[serde(deserialize_with = "number")]
    pub spin_us: Option<u32>,

    /// Send packets from where they lie, without a copy of the kernel's [default: auto, where that is
    /// faster]
    #[arg(
        id = "backend.zerocopy",
        long = "zerocopy",
        value_name = "auto|on|off",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub zerocopy: Option<ZeroCopy>,

    /// How long to try to connect again to a TCP receiver that is gone, before its heaps fail; 0 is not
    /// at all [default: 0]
    #[arg(id = "backend.reconnect", long = "reconnect", value_name = "SECONDS")]
    #[serde(deserialize_with = "number")]
    pub reconnect: Option<u32>,

    /// Capture file to write, with --backend pcap [default: none; pcap needs one]
    #[arg(id = "backend.pcap", long = "pcap", value_name = "FILE")]
    pub pcap: Option<String>,
}

/// The section `[monitor]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Monitoring")]
#[serde(default, deny_unknown_fields)]
pub struct MonitorOptions {
    /// Seconds between lines of the log that say how the stream goes, which -v shows; 0 for none [default: 1]
    #[arg(id = "monitor.log_interval", long = "log-interval", value_name = "SECONDS")]
    #[serde(deserialize_with = "number")]
    pub log_interval: Option<u32>,

    /// Serve figures of the stream to Prometheus, at http://ADDR:PORT/metrics [default: off]
    #[arg(id = "monitor.metrics", long = "metrics", value_name = "ADDR:PORT")]
    #[serde(with = "text")]
    pub metrics: Option<SocketAddr>,
}

impl Options {
    /// These options, and where they say nothing, the `other` ones: flags over the file.
    pub fn or(self, other: Self) -> Self {
        Self {
            stream: self.stream.or(other.stream),
            heap: self.heap.or(other.heap),
            source: SourceOptions {
                kind: self.source.kind.or(other.source.kind),
                dtype: self.source.dtype.or(other.source.dtype),
                shape: self.source.shape.or(other.source.shape),
                repeat: self.source.repeat.or(other.source.repeat),
                pack: self.source.pack.or(other.source.pack),
                range: self.source.range.or(other.source.range),
            },
            batch: BatchOptions {
                heaps: self.batch.heaps.or(other.batch.heaps),
                in_flight: self.batch.in_flight.or(other.batch.in_flight),
                layout: self.batch.layout.or(other.batch.layout),
            },
            pacing: self.pacing.or(other.pacing),
            backend: self.backend.or(other.backend),
            senders: self.senders.or(other.senders),
            item: if self.item.is_empty() { other.item } else { self.item },
            monitor: MonitorOptions {
                log_interval: self.monitor.log_interval.or(other.monitor.log_interval),
                metrics: self.monitor.metrics.or(other.monitor.metrics),
            },
        }
    }
}

impl StreamOptions {
    fn or(self, other: Self) -> Self {
        Self {
            to: self.to.or(other.to),
            packet_size: self.packet_size.or(other.packet_size),
            mtu: self.mtu.or(other.mtu),
            flavour: self.flavour.or(other.flavour),
            repeat_pointers: self.repeat_pointers.or(other.repeat_pointers),
            group: self.group.or(other.group),
            cnt_start: self.cnt_start.or(other.cnt_start),
            cnt_step: self.cnt_step.or(other.cnt_step),
            ttl: self.ttl.or(other.ttl),
            vlan: self.vlan.or(other.vlan),
            dst_mac: self.dst_mac.or(other.dst_mac),
            source_port: self.source_port.or(other.source_port),
            warm_up: self.warm_up.or(other.warm_up),
        }
    }
}

impl HeapOptions {
    fn or(self, other: Self) -> Self {
        Self {
            size: self.size.or(other.size),
            count: self.count.or(other.count),
            items: self.items.or(other.items),
            descriptors: self.descriptors.or(other.descriptors),
            descriptors_every: self.descriptors_every.or(other.descriptors_every),
            frame_number: self.frame_number.or(other.frame_number),
        }
    }
}

impl BackendOptions {
    fn or(self, other: Self) -> Self {
        Self {
            kind: self.kind.or(other.kind),
            interface: self.interface.or(other.interface),
            device: self.device.or(other.device),
            qp: self.qp.or(other.qp),
            completion: self.completion.or(other.completion),
            spin_us: self.spin_us.or(other.spin_us),
            zerocopy: self.zerocopy.or(other.zerocopy),
            reconnect: self.reconnect.or(other.reconnect),
            pcap: self.pcap.or(other.pcap),
        }
    }
}
