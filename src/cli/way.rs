//! Which way onto the wire a stream takes, and why.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use doorbell::backend::interface::Interface;
use doorbell::backend::pcap::{Pcap, PcapConfig};
use doorbell::backend::tcp::{Tcp, TcpConfig};
use doorbell::backend::udp::{self, Udp, UdpConfig};
use doorbell::backend::verbs::{CompletionMode, Flows, Verbs, VerbsConfig, VerbsRequest};
use doorbell::backend::{Backend, MAX_UDP_PAYLOAD, OpenError, max_packet_size};
use doorbell::config::{BackendChoice, CompletionKind, Config, ConfigError, StreamConfig};
use doorbell::plan::{PacketSize, Plan, RunLimits, runs};
use doorbell::region::Layout;

use super::exit::Failure;

/// A way onto the wire.
pub struct Way {
    kind: Kind,
    /// Why this one.
    pub reason: String,
    /// Bytes of IP packet that the route carries.
    pub mtu: u32,
}

enum Kind {
    Udp(UdpConfig),
    Tcp(TcpConfig),
    Verbs(VerbsConfig),
    Pcap(PathBuf, PcapConfig),
}

impl Way {
    /// Finds the way that the configuration asks for. A backend that is named is never replaced.
    pub fn find(config: &Config, destinations: &[SocketAddr]) -> Result<Self, Failure> {
        let interface = config
            .backend
            .interface
            .as_ref()
            .map(|interface| Interface::find(&interface.to_string()))
            .transpose()?;
        let asked = || "asked for".to_owned();
        match &config.backend.choice {
            BackendChoice::Pcap(path) => {
                // A capture needs no route; where there is one, it shows what that would carry.
                let mtu = match config.stream.mtu {
                    Some(mtu) => mtu,
                    None => udp::route_mtu(&udp_config(config, destinations, interface.clone()))
                        .unwrap_or(ETHERNET_MTU),
                };
                let pcap = pcap_config(config, destinations, interface.as_ref());
                Ok(Self { kind: Kind::Pcap(path.clone(), pcap), reason: asked(), mtu })
            }
            BackendChoice::Udp => Self::udp(config, destinations, interface, asked()),
            BackendChoice::Tcp => {
                let udp = udp_config(config, destinations, interface.clone());
                let mtu = match config.stream.mtu {
                    Some(mtu) => mtu,
                    None => udp::route_mtu(&UdpConfig { source_port: 0, ..udp })?,
                };
                let tcp = tcp_config(config, destinations, interface);
                Ok(Self { kind: Kind::Tcp(tcp), reason: asked(), mtu })
            }
            BackendChoice::Verbs => Self::verbs(config, destinations, interface, asked()),
            BackendChoice::Auto if config.stream.to.is_empty() => {
                config.served_by_udp()?;
                let reason = "auto: loopback has no RDMA".to_owned();
                Self::udp(config, destinations, interface, reason)
            }
            BackendChoice::Auto => {
                let reason = "auto: the interface has an RDMA device".to_owned();
                match Self::verbs(config, destinations, interface.clone(), reason) {
                    // What opens now opens later; what does not is a reason to use UDP.
                    Ok(way) => match way.open(1, Layout::Packed) {
                        Ok(_) => Ok(way),
                        Err(error) => Self::fall_back(config, destinations, interface, &error),
                    },
                    Err(Failure::Open(error)) => {
                        Self::fall_back(config, destinations, interface, &error)
                    }
                    Err(failure) => Err(failure),
                }
            }
        }
    }

    fn fall_back(
        config: &Config,
        destinations: &[SocketAddr],
        interface: Option<Interface>,
        why: &OpenError,
    ) -> Result<Self, Failure> {
        config.served_by_udp()?;
        tracing::info!("verbs is not used: {why}");
        let reason = format!("auto: no verbs, {}", why.source);
        Self::udp(config, destinations, interface, reason)
    }

    fn udp(
        config: &Config,
        destinations: &[SocketAddr],
        interface: Option<Interface>,
        reason: String,
    ) -> Result<Self, Failure> {
        let udp = udp_config(config, destinations, interface);
        let mtu = match config.stream.mtu {
            Some(mtu) => mtu,
            None => udp::route_mtu(&udp)?,
        };
        Ok(Self { kind: Kind::Udp(udp), reason, mtu })
    }

    fn verbs(
        config: &Config,
        destinations: &[SocketAddr],
        interface: Option<Interface>,
        reason: String,
    ) -> Result<Self, Failure> {
        let backend = &config.backend;
        let request = VerbsRequest {
            interface,
            device: backend.device.clone(),
            destination_mac: config.stream.dst_mac,
            vlan: config.stream.vlan,
            source_port: config.stream.source_port,
            ttl: config.stream.ttl,
            completion: match backend.completion {
                CompletionKind::Poll => CompletionMode::Poll,
                CompletionKind::Event => CompletionMode::Event { spin: backend.spin },
            },
            queues: config.stream.destinations().filter_map(|to| to.queue()).collect(),
            ..VerbsRequest::new(destinations.to_vec())
        };
        let verbs = request.resolve()?;
        let mtu = config.stream.mtu.unwrap_or(verbs.mtu);
        Ok(Self { kind: Kind::Verbs(verbs), reason, mtu })
    }

    /// The name of the backend.
    pub fn backend(&self) -> &'static str {
        match &self.kind {
            Kind::Udp(_) => "udp",
            Kind::Tcp(_) => "tcp",
            Kind::Verbs(_) => "verbs",
            Kind::Pcap(..) => "pcap",
        }
    }

    /// The RDMA device and its port, if the way is through one.
    pub fn rdma_port(&self) -> Option<(&str, u8)> {
        match &self.kind {
            Kind::Verbs(config) => Some((&config.device, config.port)),
            _ => None,
        }
    }

    /// How large packets are, and the most that they may be, in bytes of SPEAD; that is `None` if they may
    /// be of any size.
    pub fn packet_size(
        &self,
        stream: &StreamConfig,
        to: IpAddr,
    ) -> Result<(PacketSize, Option<usize>), ConfigError> {
        match &self.kind {
            Kind::Tcp(_) => Ok((stream.packet_size_in_stream(), None)),
            Kind::Verbs(VerbsConfig { flows: Flows::Datagrams(_), mtu, .. }) => {
                let (size, most) = stream.message_size_within(*mtu)?;
                Ok((size, Some(most as usize)))
            }
            _ => {
                let size = stream.packet_size_within(self.mtu, to.is_ipv6())?;
                Ok((size, Some(max_packet_size(self.mtu, to))))
            }
        }
    }

    /// Opens the backend, for at most so many packets in flight.
    pub fn open(&self, packets: u32, layout: Layout) -> Result<Box<dyn Backend>, OpenError> {
        Ok(match &self.kind {
            Kind::Udp(config) => Box::new(Udp::open(config)?),
            Kind::Tcp(config) => Box::new(Tcp::open(config)?),
            Kind::Verbs(config) => Box::new(Verbs::open(VerbsConfig {
                depth: packets,
                pieces: pieces(layout),
                ..config.clone()
            })?),
            Kind::Pcap(path, config) => Box::new(Pcap::create(path, config)?),
        })
    }

    /// How many packets each message to the kernel holds, in a whole batch.
    pub fn messages(&self, plan: &Plan, layout: Layout) -> Vec<usize> {
        let segments = match self.kind {
            Kind::Udp(_) => SEGMENTS,
            Kind::Tcp(_) => return calls(plan, layout),
            Kind::Verbs(_) | Kind::Pcap(..) => 1,
        };
        let limits = RunLimits { segments, bytes: MAX_UDP_PAYLOAD };
        runs(plan.packets(), limits).map(|run| run.packets.len()).collect()
    }

    /// Bytes before each packet.
    pub fn headroom(&self) -> usize {
        match &self.kind {
            Kind::Udp(_) | Kind::Tcp(_) => 0,
            Kind::Verbs(config) => config.flows.headroom(),
            Kind::Pcap(_, config) => config.header_len(),
        }
    }

    /// Calls that a batch of so many packets, in so many messages, takes.
    pub fn doorbells(&self, packets: usize, messages: usize, layout: Layout) -> usize {
        match &self.kind {
            Kind::Udp(_) => messages.div_ceil(MESSAGES_PER_CALL),
            Kind::Tcp(_) => messages,
            // A device that cannot be asked says so when it is opened.
            Kind::Verbs(config) => Verbs::depth(config, pieces(layout))
                .map_or(1, |depth| packets.div_ceil(depth as usize)),
            Kind::Pcap(..) => 1,
        }
    }
}

/// Pieces of memory that a packet has.
pub fn pieces(layout: Layout) -> u32 {
    if layout == Layout::Packed { 1 } else { 2 }
}

/// Packets of each call that a batch takes over TCP, where the send buffer has room.
fn calls(plan: &Plan, layout: Layout) -> Vec<usize> {
    let most = Tcp::packets_per_call(layout);
    let of_one_flow = plan.packets().chunk_by(|one, next| one.flow == next.flow);
    of_one_flow.flat_map(|packets| packets.chunks(most)).map(<[_]>::len).collect()
}

fn tcp_config(
    config: &Config,
    destinations: &[SocketAddr],
    interface: Option<Interface>,
) -> TcpConfig {
    TcpConfig {
        interface,
        ttl: config.stream.ttl,
        source_port: config.stream.source_port.unwrap_or(0),
        zero_copy: config.backend.zerocopy,
        reconnect: config.backend.reconnect,
        ..TcpConfig::new(destinations.to_vec())
    }
}

fn udp_config(
    config: &Config,
    destinations: &[SocketAddr],
    interface: Option<Interface>,
) -> UdpConfig {
    UdpConfig {
        interface,
        ttl: config.stream.ttl,
        source_port: config.stream.source_port.unwrap_or(0),
        zero_copy: config.backend.zerocopy,
        ..UdpConfig::new(destinations.to_vec())
    }
}

fn pcap_config(
    config: &Config,
    destinations: &[SocketAddr],
    interface: Option<&Interface>,
) -> PcapConfig {
    let stream = &config.stream;
    let mut pcap = PcapConfig::to(destinations.to_vec());
    pcap.ttl = stream.ttl_to(destinations[0].ip());
    if let Some(mac) = stream.dst_mac {
        pcap.destination_mac = mac;
    }
    if let Some(port) = stream.source_port {
        pcap.source.set_port(port);
    }
    if let Some(ip) = interface.and_then(|it| it.source_address(destinations[0].ip())) {
        pcap.source.set_ip(ip);
    }
    pcap.vlan = stream.vlan;
    pcap
}

const ETHERNET_MTU: u32 = 1500;
/// What every kernel with UDP segmentation offload takes in one message.
const SEGMENTS: u32 = 64;
/// UIO_MAXIOV, which bounds sendmmsg(2) too.
const MESSAGES_PER_CALL: usize = 1024;
