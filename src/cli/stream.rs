//! From a configuration to what a stream consists of: source, destinations, backend, plans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use doorbell::backend::interface::Interface;
use doorbell::backend::pcap::{Pcap, PcapConfig};
use doorbell::backend::udp::{self, Udp, UdpConfig};
use doorbell::backend::{Backend, MAX_UDP_PAYLOAD, OpenError};
use doorbell::config::{
    self, BackendChoice, Config, DescriptorPlacement, GroupMode, HeapContent, SourceKind,
};
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan, PlanError, RunLimits};
use doorbell::region::Layout;
use doorbell::source::{Npy, Pattern, Random, RawFile, Source, SourceItem, Stdin};
use doorbell::wire::ethernet::{EtherType, Vlan};
use doorbell::wire::frame::FrameHeader;
use doorbell::wire::{Descriptor, Field, StreamControl};

use super::exit::Failure;

/// A stream that is ready to be sent.
pub struct Stream {
    pub config: Config,
    pub source: Box<dyn Source>,
    pub destinations: Vec<SocketAddr>,
    /// Which backend, and why.
    pub backend: &'static str,
    pub reason: String,
    /// Bytes of IP packet that the route carries.
    pub mtu: u32,
    /// The largest packet that this leaves, in bytes of SPEAD.
    pub packet_limit: usize,
    /// How many data heaps there are, if that is known.
    pub heaps: Option<u64>,
    pub layout: Layout,
    /// Descriptors; with the payload of heap 0 if [`Stream::first_data_heap`] is 1.
    pub start: Arc<Plan>,
    pub data: Arc<Plan>,
    pub stop: Arc<Plan>,
    /// Index of the first data heap that the data plan sends.
    pub first_data_heap: u64,
}

impl Stream {
    /// Opens the source, finds the way, and plans. Sends nothing.
    ///
    /// `receiver` is where a stream goes that has no destination.
    pub fn prepare(config: Config, receiver: SocketAddr) -> Result<Self, Failure> {
        let destinations = match config.stream.to.is_empty() {
            true => vec![receiver],
            false => resolve(&config)?,
        };
        let source = open_source(&config)?;
        let (backend, reason) = choose(&config.backend.choice)?;
        let mtu = match (config.stream.mtu, &config.backend.choice) {
            (Some(mtu), _) => mtu,
            // A capture needs no route; where there is one, it shows what that would carry.
            (None, BackendChoice::Pcap(_)) => {
                udp::route_mtu(&udp_config(&config, &destinations)?).unwrap_or(ETHERNET_MTU)
            }
            (None, _) => udp::route_mtu(&udp_config(&config, &destinations)?)?,
        };
        let heaps = match (config.heap.count, source.heaps()) {
            (Some(asked), Some(there)) if asked > there => {
                return Err(Failure::Usage(format!(
                    "heap.count (--heaps): {asked} heaps were asked for, the source has {there}"
                )));
            }
            (asked, there) => asked.or(there),
        };
        let attached = source.memory().is_some();
        let flows = destinations.len() as u32;
        let together = config.heap.descriptors == DescriptorPlacement::First
            && flows == 1
            && !attached
            && source.heap_len() > 0;
        let packet_limit = udp::max_packet_size(mtu, &destinations[0]);
        let planner = Planner::new(&config, flows, mtu, packet_limit)?;
        let timestamp = timestamp_descriptor(&config);
        let descriptors = source
            .items()
            .iter()
            .map(|item| item.descriptor.clone())
            .fold(HeapSpec::new().descriptor(timestamp), HeapSpec::descriptor);
        let batch_heaps = config.batch.heaps_of(source.heap_len() as u64, u64::from(flows), heaps);
        Ok(Self {
            start: match together {
                true => planner.plan(&data_heap(descriptors, source.items()), 1)?,
                false => planner.plan(&descriptors, flows as usize)?,
            },
            data: planner
                .plan(&data_heap(HeapSpec::new(), source.items()), batch_heaps as usize)?,
            stop: planner.plan(&HeapSpec::control(StreamControl::Stop), flows as usize)?,
            first_data_heap: u64::from(together),
            layout: if attached { Layout::Attached } else { Layout::Packed },
            config,
            source,
            destinations,
            backend,
            reason,
            mtu,
            packet_limit,
            heaps,
        })
    }

    /// Opens the backend.
    pub fn open(&self) -> Result<Box<dyn Backend>, OpenError> {
        Ok(match &self.config.backend.choice {
            BackendChoice::Pcap(path) => Box::new(Pcap::create(path, &self.pcap_config()?)?),
            _ => Box::new(Udp::open(&udp_config(&self.config, &self.destinations)?)?),
        })
    }

    /// What a message to the kernel can hold, and the bytes before each packet.
    pub fn message_limits(&self) -> (RunLimits, usize) {
        let bytes = MAX_UDP_PAYLOAD;
        match &self.config.backend.choice {
            BackendChoice::Pcap(_) => {
                let ethertype = EtherType::of(self.destinations[0].ip());
                let vlan = self.config.stream.vlan.and_then(|id| Vlan::new(id, 0).ok());
                (RunLimits { segments: 1, bytes }, FrameHeader::len_for(ethertype, vlan))
            }
            _ => (RunLimits { segments: udp::MAX_SEGMENTS, bytes }, 0),
        }
    }

    fn pcap_config(&self) -> Result<PcapConfig, OpenError> {
        let stream = &self.config.stream;
        let mut pcap = PcapConfig::to(self.destinations.clone());
        pcap.ttl = stream.ttl_to(self.destinations[0].ip());
        if let Some(mac) = stream.dst_mac {
            pcap.destination_mac = mac;
        }
        if let Some(port) = stream.source_port {
            pcap.source.set_port(port);
        }
        if let Some(interface) = interface(&self.config)? {
            let family = self.destinations[0].is_ipv4();
            if let Some(ip) = interface.addresses.iter().find(|ip| ip.is_ipv4() == family) {
                pcap.source.set_ip(*ip);
            }
        }
        pcap.vlan = stream
            .vlan
            .map(|id| Vlan::new(id, 0))
            .transpose()
            .map_err(|source| OpenError::new("tag frames", "stream.vlan", source))?;
        Ok(pcap)
    }
}

/// Where a stream without a destination seems to go before there is a receiver.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7148);

/// Plans heaps by the settings of one stream.
struct Planner<'a> {
    config: &'a Config,
    size: PacketSize,
    flows: u32,
}

impl<'a> Planner<'a> {
    fn new(config: &'a Config, flows: u32, mtu: u32, limit: usize) -> Result<Self, Failure> {
        let size = match config.stream.packet_size {
            config::PacketSize::Auto => PacketSize::Uniform { limit },
            config::PacketSize::AtMost(bytes) if bytes as usize > limit => {
                return Err(Failure::Usage(format!(
                    "stream.packet_size (--packet-size): packets of {bytes} bytes exceed what an \
                     MTU of {mtu} carries: at most {limit}, or auto"
                )));
            }
            config::PacketSize::AtMost(bytes) => PacketSize::Exact(bytes as usize),
        };
        Ok(Self { config, size, flows })
    }

    fn plan(&self, heap: &HeapSpec, count: usize) -> Result<Arc<Plan>, PlanError> {
        let order = match self.config.stream.group {
            GroupMode::Serial => Order::Serial,
            GroupMode::RoundRobin => Order::RoundRobin,
        };
        let plan = Plan::builder(self.config.stream.flavour, self.size)
            .heaps(heap, count)
            .flows(self.flows)
            .repeat_pointers(self.config.stream.repeat_pointers)
            .order(order)
            .build()?;
        Ok(Arc::new(plan))
    }
}

fn data_heap(heap: HeapSpec, items: &[SourceItem]) -> HeapSpec {
    items.iter().fold(heap.immediate(TIMESTAMP, 0), |heap, item| {
        heap.payload(item.descriptor.id, item.size)
    })
}

fn timestamp_descriptor(config: &Config) -> Descriptor {
    Descriptor {
        id: TIMESTAMP,
        name: "timestamp".into(),
        description: "Index of the first sample".into(),
        format: vec![Field::new(b'u', u32::from(config.stream.flavour.address_bits()))],
        ..Descriptor::default()
    }
}

fn open_source(config: &Config) -> Result<Box<dyn Source>, Failure> {
    let (items, len) = match &config.heap.content {
        HeapContent::Items(items) => {
            let items: Vec<SourceItem> = items
                .iter()
                .map(|item| SourceItem {
                    descriptor: item.descriptor(),
                    size: item.array().bytes() as usize,
                })
                .collect();
            let len = items.iter().map(|item| item.size).sum();
            (Some(items), len)
        }
        content => (None, content.bytes().unwrap_or(0) as usize),
    };
    Ok(match &config.source {
        SourceKind::Pattern => Box::new(Pattern::new(len, items)),
        SourceKind::Random { seed } => Box::new(Random::new(*seed, len, items)),
        SourceKind::Npy(path) => Box::new(Npy::open(path)?),
        SourceKind::File(path) => Box::new(RawFile::open(path, len, items)?),
        SourceKind::Stdin => Box::new(Stdin::new(len, items)),
    })
}

/// Which backend to use, and why.
fn choose(choice: &BackendChoice) -> Result<(&'static str, String), Failure> {
    match choice {
        BackendChoice::Udp => Ok(("udp", "asked for".into())),
        BackendChoice::Pcap(_) => Ok(("pcap", "asked for".into())),
        BackendChoice::Auto => Ok(("udp", "auto: this version has no verbs backend".into())),
        BackendChoice::Verbs => Err(OpenError::new(
            "open the backend",
            "verbs",
            "this version has no verbs backend; use --backend udp",
        )
        .into()),
    }
}

fn udp_config(config: &Config, destinations: &[SocketAddr]) -> Result<UdpConfig, OpenError> {
    Ok(UdpConfig {
        destinations: destinations.to_vec(),
        interface: interface(config)?,
        ttl: config.stream.ttl,
        source_port: config.stream.source_port.unwrap_or(0),
    })
}

fn interface(config: &Config) -> Result<Option<Interface>, OpenError> {
    config
        .backend
        .interface
        .as_ref()
        .map(|interface| match interface {
            config::Interface::Name(name) => Interface::by_name(name),
            config::Interface::Address(address) => Interface::by_address(*address),
        })
        .transpose()
}

/// Looks the destinations up, and sees to it that they are of one family: that of the first.
fn resolve(config: &Config) -> Result<Vec<SocketAddr>, Failure> {
    let mut resolved: Vec<SocketAddr> = Vec::new();
    for endpoint in config.stream.destinations() {
        let host = endpoint.host().to_string();
        let error = |why: String| Failure::Open(OpenError::new("look up", &host, why));
        let found: Vec<SocketAddr> = (host.as_str(), endpoint.port())
            .to_socket_addrs()
            .map_err(|source| error(source.to_string()))?
            .collect();
        let family = resolved.first().map(SocketAddr::is_ipv4);
        let fitting = found.iter().find(|to| family.is_none_or(|ipv4| to.is_ipv4() == ipv4));
        resolved.push(
            *fitting.ok_or_else(|| {
                error(format!("it has no address of the family of {}", resolved[0]))
            })?,
        );
    }
    Ok(resolved)
}

/// The item of the SPEAD tutorial.
pub const TIMESTAMP: u64 = 0x1600;
const ETHERNET_MTU: u32 = 1500;
