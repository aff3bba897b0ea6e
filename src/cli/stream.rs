//! From a configuration to what a stream consists of: source, destinations, backend, plans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use doorbell::backend::interface::Interface;
use doorbell::backend::pcap::{Pcap, PcapConfig};
use doorbell::backend::udp::{self, Udp, UdpConfig};
use doorbell::backend::{Backend, MAX_UDP_PAYLOAD, OpenError, max_packet_size};
use doorbell::config::{BackendChoice, Config, DescriptorPlacement, HeapContent, SourceKind};
use doorbell::plan::{HeapSpec, PacketSize, Plan, PlanError, RunLimits};
use doorbell::region::Layout;
use doorbell::source::{Npy, Pattern, Random, RawFile, Reader, Source, SourceItem};
use doorbell::wire::ethernet::EtherType;
use doorbell::wire::frame::FrameHeader;
use doorbell::wire::{Descriptor, Field, StreamControl};

use super::exit::Failure;
use super::stdin::Stdin;
use doorbell::receive::TIMESTAMP_ITEM as TIMESTAMP;

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
    /// `receiver` is where a stream goes that has no destination; `interrupted` ends standard input.
    pub fn prepare(
        config: Config,
        receiver: SocketAddr,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let destinations = match config.stream.to.is_empty() {
            true => vec![receiver],
            false => resolve(&config)?,
        };
        let source = open_source(&config, interrupted)?;
        let (backend, reason) = choose(&config)?;
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
        let packet_limit = max_packet_size(mtu, destinations[0].ip());
        let size = config.stream.packet_size_within(mtu, destinations[0].is_ipv6())?;
        let planner = Planner { config: &config, size, flows };
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

    /// Heap cnt of data heap 0.
    pub fn first_data_cnt(&self) -> u64 {
        let stream = &self.config.stream;
        let before = match self.first_data_heap {
            0 => u64::from(self.start.heaps()),
            _ => 0,
        };
        stream.cnt_start.wrapping_add(stream.cnt_step.wrapping_mul(before))
    }

    /// What a message to the kernel can hold, and the bytes before each packet.
    pub fn message_limits(&self) -> (RunLimits, usize) {
        let bytes = MAX_UDP_PAYLOAD;
        match &self.config.backend.choice {
            BackendChoice::Pcap(_) => {
                let ethertype = EtherType::of(self.destinations[0].ip());
                let headroom = FrameHeader::len_for(ethertype, self.config.stream.vlan);
                (RunLimits { segments: 1, bytes }, headroom)
            }
            _ => (RunLimits { segments: SEGMENTS, bytes }, 0),
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
        let interface = interface(&self.config)?;
        if let Some(ip) = interface.and_then(|it| it.source_address(self.destinations[0].ip())) {
            pcap.source.set_ip(ip);
        }
        pcap.vlan = stream.vlan;
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

impl Planner<'_> {
    fn plan(&self, heap: &HeapSpec, count: usize) -> Result<Arc<Plan>, PlanError> {
        let plan = Plan::builder(self.config.stream.flavour, self.size)
            .heaps(heap, count)
            .flows(self.flows)
            .repeat_pointers(self.config.stream.repeat_pointers)
            .order(self.config.stream.group)
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

fn open_source(config: &Config, interrupted: &Arc<AtomicBool>) -> Result<Box<dyn Source>, Failure> {
    // Items that were named, else one that is as long as a heap.
    let items = |whole: fn(usize) -> SourceItem| match &config.heap.content {
        HeapContent::Items(items) => items
            .iter()
            .map(|item| SourceItem {
                descriptor: item.descriptor(),
                size: item.array().bytes() as usize,
            })
            .collect(),
        content => vec![whole(content.bytes().unwrap_or(0) as usize)],
    };
    Ok(match &config.source {
        SourceKind::Pattern => Box::new(Pattern::new(items(SourceItem::samples))),
        SourceKind::Random { seed } => Box::new(Random::new(*seed, items(SourceItem::samples))),
        SourceKind::Npy(path) => Box::new(Npy::open(path)?),
        SourceKind::File(path) => Box::new(RawFile::open(path, items(SourceItem::bytes))?),
        SourceKind::Stdin => {
            let stdin = Stdin::until(interrupted)
                .map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
            Box::new(Reader::new(stdin, items(SourceItem::samples))?)
        }
    })
}

/// Which backend to use, and why.
fn choose(config: &Config) -> Result<(&'static str, String), Failure> {
    match &config.backend.choice {
        BackendChoice::Udp => Ok(("udp", "asked for".into())),
        BackendChoice::Pcap(_) => Ok(("pcap", "asked for".into())),
        BackendChoice::Auto => {
            config.served_by_udp()?;
            Ok(("udp", "auto: this version has no verbs backend".into()))
        }
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
        interface: interface(config)?,
        ttl: config.stream.ttl,
        source_port: config.stream.source_port.unwrap_or(0),
        ..UdpConfig::new(destinations.to_vec())
    })
}

fn interface(config: &Config) -> Result<Option<Interface>, OpenError> {
    config
        .backend
        .interface
        .as_ref()
        .map(|interface| Interface::find(&interface.to_string()))
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

const ETHERNET_MTU: u32 = 1500;
/// What every kernel with UDP segmentation offload takes in one message.
const SEGMENTS: u32 = 64;
