//! Which way onto the wire a stream takes, and why.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::StreamError;
use crate::backend::interface::Interface;
use crate::backend::null::{self, Null};
use crate::backend::pcap::{self, Pcap, PcapConfig};
use crate::backend::tcp::{self, Tcp, TcpConfig};
use crate::backend::udp::{self, Udp, UdpConfig};
use crate::backend::verbs::{self, CompletionMode, Flows, Verbs, VerbsConfig, VerbsRequest};
use crate::backend::{Backend, OpenError, max_packet_size};
use crate::output::{Output, OutputError};
use crate::plan::{PacketSize, Plan, runs};
use crate::region::{Layout, Placement};
use crate::settings::{BackendKind, CompletionKind, QueuePairKind, Settings, SettingsError, keys};

/// A way onto the wire that was found for a stream.
#[derive(Debug)]
pub struct Transport {
    config: TransportConfig,
    /// Why this one.
    pub reason: String,
    /// Bytes of IP packet that the route carries.
    pub mtu: u32,
}

#[derive(Debug)]
enum TransportConfig {
    Udp(UdpConfig),
    Tcp(TcpConfig),
    Verbs(VerbsConfig),
    Pcap { path: PathBuf, replaced: bool, config: PcapConfig },
    Null { flows: u32 },
}

impl Transport {
    /// Finds the one that the settings ask for. A backend that is named is never replaced.
    pub(super) fn find(
        settings: &Settings,
        destinations: &[SocketAddr],
    ) -> Result<Self, StreamError> {
        let named = settings.backend.interface.as_ref();
        let interface = named.map(|it| Interface::find(&it.to_string())).transpose()?;
        let request = Request { settings, destinations, interface };
        let asked = || "asked for".to_owned();
        match (settings.backend.kind, &settings.backend.pcap) {
            (BackendKind::Pcap, path) => {
                let config = TransportConfig::Pcap {
                    path: path.as_deref().unwrap_or_default().into(),
                    replaced: settings.backend.force,
                    config: request.pcap(),
                };
                Ok(Self { config, reason: asked(), mtu: request.mtu_without_route() })
            }
            (BackendKind::Null, _) => {
                let config = TransportConfig::Null { flows: destinations.len() as u32 };
                Ok(Self { config, reason: asked(), mtu: request.mtu_without_route() })
            }
            (BackendKind::Udp, _) => request.by_udp(asked()),
            (BackendKind::Tcp, _) => {
                let mtu = match settings.stream.mtu {
                    Some(mtu) => mtu,
                    None => udp::route_mtu(&UdpConfig { source_port: 0, ..request.udp() })?,
                };
                Ok(Self { config: TransportConfig::Tcp(request.tcp()), reason: asked(), mtu })
            }
            (BackendKind::Verbs, _) => Ok(request.by_verbs(asked())?),
            // Queues are reached by nothing else.
            (BackendKind::Auto, _)
                if settings.backend.queue_pair(&settings.stream) == QueuePairKind::Ud =>
            {
                Ok(request.by_verbs(asked())?)
            }
            // Those are not to leave this host, and devices send to others.
            (BackendKind::Auto, _) if settings.stream.ttl == Some(0) => {
                settings.check_udp()?;
                request.by_udp("auto: packets of TTL 0 stay on this host".into())
            }
            (BackendKind::Auto, _) if destinations.iter().all(|to| to.ip().is_loopback()) => {
                settings.check_udp()?;
                request.by_udp("auto: loopback has no RDMA".into())
            }
            (BackendKind::Auto, _) => {
                let found = request.by_verbs("auto: the interface has an RDMA device".into());
                // What opens now opens later; what does not is a reason to use UDP.
                let found = found.map_err(StreamError::from);
                match found.and_then(|it| it.open(1, Layout::Packed).map(|_| it)) {
                    Err(StreamError::Open(error)) => {
                        settings.check_udp()?;
                        tracing::info!("verbs is not used: {error}");
                        request.by_udp(format!("auto: no verbs, {}", error.source))
                    }
                    found => found,
                }
            }
        }
    }

    /// The name of the backend.
    pub fn backend(&self) -> &'static str {
        match &self.config {
            TransportConfig::Udp(_) => udp::NAME,
            TransportConfig::Tcp(_) => tcp::NAME,
            TransportConfig::Verbs(_) => verbs::NAME,
            TransportConfig::Pcap { .. } => pcap::NAME,
            TransportConfig::Null { .. } => null::NAME,
        }
    }

    /// Whether receivers lose what they have no room for. Over TCP they make the sender wait, and a file takes
    /// all.
    pub(super) fn overruns_receivers(&self) -> bool {
        matches!(self.config, TransportConfig::Udp(_) | TransportConfig::Verbs(_))
    }

    /// The RDMA device and its port, if it leads through one.
    pub fn rdma_port(&self) -> Option<(&str, u8)> {
        match &self.config {
            TransportConfig::Verbs(config) => Some((&config.device, config.port)),
            _ => None,
        }
    }

    /// How large packets are, and the most that they may be, in bytes of SPEAD; that is `None` if they may
    /// be of any size.
    pub(super) fn packet_size(
        &self,
        settings: &Settings,
        to: IpAddr,
    ) -> Result<(PacketSize, Option<usize>), SettingsError> {
        let stream = &settings.stream;
        match &self.config {
            TransportConfig::Tcp(_) => Ok((stream.packet_size_in_stream(), None)),
            TransportConfig::Verbs(VerbsConfig { flows: Flows::Datagrams(_), mtu, .. }) => {
                let (size, most) = stream.message_size_within(*mtu)?;
                Ok((size, Some(most as usize)))
            }
            _ => {
                let size = stream.packet_size_within(self.mtu, to.is_ipv6())?;
                Ok((size, Some(max_packet_size(self.mtu, to))))
            }
        }
    }

    /// Opens the backend, for at most `packets` in flight.
    pub(super) fn open(
        &self,
        packets: u32,
        layout: Layout,
    ) -> Result<Box<dyn Backend>, StreamError> {
        Ok(match &self.config {
            TransportConfig::Udp(config) => Box::new(Udp::open(config)?),
            TransportConfig::Tcp(config) => Box::new(Tcp::open(config)?),
            TransportConfig::Verbs(config) => Box::new(Verbs::open(VerbsConfig {
                depth: packets,
                pieces: pieces(layout),
                ..config.clone()
            })?),
            TransportConfig::Pcap { path, replaced, config } => {
                Box::new(Pcap::create(capture(path, *replaced)?, config)?)
            }
            TransportConfig::Null { flows } => Box::new(Null::new(*flows)),
        })
    }

    /// How many packets each message to the kernel holds, in a whole batch.
    pub fn messages(&self, plan: &Plan, layout: Layout) -> Vec<usize> {
        match &self.config {
            TransportConfig::Tcp(_) => calls(plan, layout),
            _ => runs(plan.packets(), self.placement().run).map(|run| run.packets.len()).collect(),
        }
    }

    /// How its packets lie.
    pub fn placement(&self) -> Placement {
        match &self.config {
            TransportConfig::Udp(config) => config.placement(),
            TransportConfig::Tcp(_) | TransportConfig::Null { .. } => Placement::ADJACENT,
            TransportConfig::Verbs(config) => config.flows.placement(),
            TransportConfig::Pcap { config, .. } => config.placement(),
        }
    }

    /// Calls that a batch of `packets`, in `messages`, takes.
    pub fn doorbells(&self, packets: usize, messages: usize, layout: Layout) -> usize {
        match &self.config {
            TransportConfig::Udp(_) => messages.div_ceil(udp::MESSAGES_PER_CALL),
            TransportConfig::Tcp(_) => messages,
            // A device that cannot be asked says so when it is opened.
            TransportConfig::Verbs(config) => Verbs::depth(config, pieces(layout))
                .map_or(1, |depth| packets.div_ceil(depth as usize)),
            TransportConfig::Pcap { .. } | TransportConfig::Null { .. } => 1,
        }
    }
}

/// Where a capture goes, which must cost no other file.
fn capture(path: &Path, replaced: bool) -> Result<Output, StreamError> {
    let unusable = |hint: String| SettingsError::unusable(keys::PCAP, path.display(), hint);
    match Output::new(path, replaced) {
        Ok(output) if !output.is_named(&["pcap", "cap"]) => {
            Err(unusable("captures are written as pcap: give it a name that ends in .pcap".into())
                .into())
        }
        Ok(output) => Ok(output),
        Err(error @ OutputError::Exists) => {
            let hint = format!("{error}: name another file, or give {} as well", keys::FORCE);
            Err(unusable(hint).into())
        }
        Err(error) => Err(OpenError::new("create the capture file", path.display(), error).into()),
    }
}

/// What is asked for.
struct Request<'a> {
    settings: &'a Settings,
    destinations: &'a [SocketAddr],
    interface: Option<Interface>,
}

impl Request<'_> {
    fn by_udp(&self, reason: String) -> Result<Transport, StreamError> {
        let udp = self.udp();
        let mtu = match self.settings.stream.mtu {
            Some(mtu) => mtu,
            None => udp::route_mtu(&udp)?,
        };
        Ok(Transport { config: TransportConfig::Udp(udp), reason, mtu })
    }

    /// A file or nothing needs no route; where there is one, it shows what that would carry.
    fn mtu_without_route(&self) -> u32 {
        let of_route = || udp::route_mtu(&self.udp()).unwrap_or(ETHERNET_MTU);
        self.settings.stream.mtu.unwrap_or_else(of_route)
    }

    fn by_verbs(&self, reason: String) -> Result<Transport, OpenError> {
        let (backend, stream) = (&self.settings.backend, &self.settings.stream);
        let request = VerbsRequest {
            interface: self.interface.clone(),
            device: backend.device.clone(),
            destination_mac: stream.dst_mac,
            vlan: stream.vlan_tag(),
            source_port: stream.source_port,
            ttl: stream.ttl,
            completion: match backend.completion {
                CompletionKind::Poll => CompletionMode::Poll,
                CompletionKind::Event => CompletionMode::Event { spin: backend.spin() },
            },
            queues: stream.destinations().filter_map(|to| to.queue()).collect(),
            ..VerbsRequest::new(self.destinations.to_vec())
        };
        let verbs = request.resolve()?;
        let mtu = stream.mtu.unwrap_or(verbs.mtu);
        Ok(Transport { config: TransportConfig::Verbs(verbs), reason, mtu })
    }

    fn tcp(&self) -> TcpConfig {
        TcpConfig {
            interface: self.interface.clone(),
            ttl: self.settings.stream.ttl,
            source_port: self.settings.stream.source_port.unwrap_or(0),
            zero_copy: self.settings.backend.zerocopy,
            reconnect: self.settings.backend.reconnect(),
            ..TcpConfig::new(self.destinations.to_vec())
        }
    }

    fn udp(&self) -> UdpConfig {
        UdpConfig {
            interface: self.interface.clone(),
            ttl: self.settings.stream.ttl,
            source_port: self.settings.stream.source_port.unwrap_or(0),
            zero_copy: self.settings.backend.zerocopy,
            gso: self.settings.backend.gso,
            ..UdpConfig::new(self.destinations.to_vec())
        }
    }

    fn pcap(&self) -> PcapConfig {
        let (stream, first) = (&self.settings.stream, self.destinations[0].ip());
        let mut pcap = PcapConfig::to(self.destinations.to_vec());
        if let Some(ttl) = stream.ttl {
            pcap.ttl = ttl;
        }
        if let Some(mac) = stream.dst_mac {
            pcap.destination_mac = mac;
        }
        if let Some(port) = stream.source_port {
            pcap.source.set_port(port);
        }
        if let Some(ip) = self.interface.as_ref().and_then(|it| it.source_address(first)) {
            pcap.source.set_ip(ip);
        }
        pcap.vlan = stream.vlan_tag();
        pcap
    }
}

/// Pieces of memory that a packet has.
fn pieces(layout: Layout) -> u32 {
    if layout == Layout::Packed { 1 } else { 2 }
}

/// Packets of each call that a batch takes over TCP, where the send buffer has room.
fn calls(plan: &Plan, layout: Layout) -> Vec<usize> {
    let most = Tcp::packets_per_call(layout);
    let of_one_flow = plan.packets().chunk_by(|one, next| one.flow == next.flow);
    of_one_flow.flat_map(|packets| packets.chunks(most)).map(<[_]>::len).collect()
}

const ETHERNET_MTU: u32 = 1500;
