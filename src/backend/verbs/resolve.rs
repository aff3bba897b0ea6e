//! From addresses to a device and the headers of frames.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::{CompletionMode, Flows, NAME, VerbsConfig};
use super::device::{PortState, RdmaDevice, RdmaPort};
use super::queue_address::QueueAddress;
use crate::backend::OpenError;
use crate::backend::interface::Interface;
use crate::backend::neighbour::Path;
use crate::wire::{Endpoints, FrameHeader, MacAddress, Vlan, default_ttl};

/// Where to send by verbs, in the terms of IP.
#[derive(Clone, Debug)]
pub struct VerbsRequest {
    /// Where frames go, one address for each flow, all of one family.
    pub destinations: Vec<SocketAddr>,
    /// Where datagrams go, in place of frames: one queue for each flow; none for frames.
    pub queues: Vec<QueueAddress>,
    /// Interface to send from; that of the route unless given.
    pub interface: Option<Interface>,
    /// RDMA device; that of the interface unless given.
    pub device: Option<String>,
    /// Where unicast frames go, in place of asking for the neighbour.
    pub destination_mac: Option<MacAddress>,
    /// VLAN tag.
    pub vlan: Option<Vlan>,
    /// UDP port that frames come from; that of the first destination unless given.
    pub source_port: Option<u16>,
    /// Time to live; 1 for multicast and 64 for unicast unless given.
    pub ttl: Option<u8>,
    /// How to wait for completions.
    pub completion: CompletionMode,
    /// How long neighbours may take to answer.
    pub limit: Duration,
}

impl VerbsRequest {
    /// Frames to these destinations, by the routes of the kernel.
    pub fn new(destinations: Vec<SocketAddr>) -> Self {
        Self {
            destinations,
            queues: Vec::new(),
            interface: None,
            device: None,
            destination_mac: None,
            vlan: None,
            source_port: None,
            ttl: None,
            completion: CompletionMode::default(),
            limit: ANSWER,
        }
    }

    /// Finds the device and, for each destination, the headers that its frames start with.
    ///
    /// # Errors
    ///
    /// If there is no route, no answer from a neighbour, or no device on that interface; if
    /// destinations are behind different interfaces.
    pub fn resolve(&self) -> Result<VerbsConfig, OpenError> {
        if let Some(to) = self.destinations.iter().find(|to| to.ip().is_loopback()) {
            let here =
                "no frame to a loopback address leaves this machine; sockets reach it, by udp";
            return Err(OpenError::new("find the way", to, here));
        }
        // Before the way, since neighbours take their time to answer.
        let device = self.device.as_deref().unwrap_or(NAME);
        let devices = RdmaDevice::all()
            .map_err(|source| OpenError::new("look for RDMA devices", device, source))?;
        if !self.queues.is_empty() {
            return self.resolve_datagrams(&devices);
        }
        let mut headers = Vec::with_capacity(self.destinations.len());
        let mut mtu = u32::MAX;
        let mut through: Option<String> = None;
        for &to in &self.destinations {
            let path = self.path(to)?;
            mtu = mtu.min(path.mtu);
            let name = through.get_or_insert_with(|| path.interface_name.clone());
            if *name != path.interface_name {
                let both = format!("it is behind {}, others behind {name}", path.interface_name);
                return Err(OpenError::new("find one interface for all destinations", to, both));
            }
            let source = self.interface.as_ref().and_then(|it| it.source_address(to.ip()));
            let port = self.source_port.unwrap_or(self.destinations[0].port());
            let source = SocketAddr::new(source.unwrap_or(path.source), port);
            headers.push(FrameHeader {
                source_mac: path.source_mac,
                destination_mac: path.destination_mac,
                vlan: self.vlan,
                endpoints: Endpoints::new(source, to)
                    .map_err(|source| OpenError::new("build frames", to, source))?,
                ttl: self.ttl.unwrap_or_else(|| default_ttl(to.ip())),
            });
        }
        let name = through.ok_or_else(|| OpenError::new("find a route", NAME, "nowhere to go"))?;
        let interface = Interface::find(&name)?;
        let (device, port) = locate(&devices, self.device.as_deref(), Some(&interface))?;
        Ok(VerbsConfig {
            device,
            port,
            flows: Flows::Frames(headers),
            mtu,
            depth: u32::MAX,
            pieces: 1,
            completion: self.completion,
        })
    }

    fn path(&self, to: SocketAddr) -> Result<Path, OpenError> {
        let interface = self.interface.as_ref().map(|interface| interface.index);
        match self.destination_mac.filter(|_| !to.ip().is_multicast()) {
            Some(mac) => Path::with_destination_mac(to.ip(), interface, mac),
            None => Path::resolve(to.ip(), interface, self.limit),
        }
        .map_err(|source| OpenError::new("find the way", to, source))
    }
}

/// The device and port of an interface; that are named; or that are the only ones.
pub(super) fn locate(
    devices: &[RdmaDevice],
    device: Option<&str>,
    interface: Option<&Interface>,
) -> Result<(String, u8), OpenError> {
    let known = || devices.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(name) = device else {
        let Some(interface) = interface else {
            let [device] = devices else {
                let several = "there are several: name the device or the interface";
                return Err(OpenError::new("find the RDMA device", known(), several));
            };
            let port = device.ports.iter().find(|port| port.state == PortState::Active);
            let port = port.or(device.ports.first());
            return Ok((device.name.clone(), port.map_or(FIRST_PORT, |port| port.number)));
        };
        return RdmaDevice::serving(devices, interface)
            .map(|(device, port)| (device.name.clone(), port.number))
            .ok_or_else(|| {
                let none = "no RDMA device is behind this interface (`doorbell devices`)";
                OpenError::new("find the RDMA device", &interface.name, none)
            });
    };
    let device = RdmaDevice::named(devices, name).ok_or_else(|| {
        let known = format!("there is no such device, only {}", known());
        OpenError::new("find the RDMA device", name, known)
    })?;
    let is_here = |port: &&RdmaPort| interface.is_some_and(|interface| port.serves(interface));
    let port = device.ports.iter().find(is_here).or(device.ports.first());
    Ok((name.to_owned(), port.map_or(FIRST_PORT, |port| port.number)))
}

/// As long as the kernel asks a neighbour by itself: three times, a second apart.
const ANSWER: Duration = Duration::from_secs(3);
const FIRST_PORT: u8 = 1;
