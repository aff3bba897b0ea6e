//! The way onto the wire.

use std::time::Duration;

use super::keys::{
    BACKEND, CPU, DEVICE, DST_MAC, FORCE, INTERFACE, PCAP, QP, SOURCE_PORT, TO, TTL, VLAN,
};
use super::setting::choices;
use super::{
    BackendKind, CompletionKind, Endpoint, InterfaceName, Key, QueuePairKind, Row, Section,
    Settings, SettingsError, StreamSettings,
};
use crate::backend::udp::{Gso, ZeroCopy};
use crate::backend::verbs::CompletionMode;

pub(super) const SECTION: Section<Settings> = Section {
    name: "backend",
    title: "Backend",
    settings: &[
        Row::one(
            BACKEND,
            "backend",
            "auto|verbs|udp|tcp|pcap|null",
            "Way onto the wire; a named one never falls back. null sends nothing, to time what is before it",
            "auto",
            |it| &mut it.backend.kind,
        )
        .choice(),
        Row::optional(
            INTERFACE,
            "interface",
            "NAME|ADDR",
            "Network interface to send from, by name or address",
            "by route",
            |it| &mut it.backend.interface,
        ),
        Row::optional(
            DEVICE,
            "device",
            "DEVICE",
            "RDMA device, such as mlx5_0, for backends that build frames",
            "the interface's",
            |it| &mut it.backend.device,
        ),
        Row::optional(
            QP,
            "qp",
            "raw|ud",
            "Queue pairs of an RDMA device: raw, frames to UDP sockets; or ud, datagrams to other queues, on \
             any device",
            "ud if --to is a queue",
            |it| &mut it.backend.qp,
        )
        .choice(),
        Row::one(
            Key::new("backend.completion"),
            "completion",
            "poll|event",
            "How to wait for an RDMA device: look all the time, or look for a while and then sleep",
            "event",
            |it| &mut it.backend.completion,
        )
        .choice(),
        Row::one(
            Key::new("backend.spin_us"),
            "spin_us",
            "MICROSECONDS",
            "How long to look before sleeping, with --completion event",
            "100",
            |it| &mut it.backend.spin_us,
        )
        .number(u32::MAX as u64),
        Row::one(
            Key::new("backend.zerocopy"),
            "zerocopy",
            "auto|on|off",
            "Send packets from where they lie, without a copy of the kernel's",
            "auto, where that is faster",
            |it| &mut it.backend.zerocopy,
        )
        .choice(),
        Row::one(
            Key::new("backend.gso"),
            "gso",
            "auto|off",
            "Over UDP, have the kernel or the device cut packets out of long messages, or send each by itself",
            "auto",
            |it| &mut it.backend.gso,
        )
        .choice(),
        Row::one(
            Key::new("backend.reconnect"),
            "reconnect",
            "SECONDS",
            "How long to try to connect to a TCP receiver that is not there yet, or is gone, before its heaps \
             fail; 0 is not at all",
            "0",
            |it| &mut it.backend.reconnect,
        )
        .number(u32::MAX as u64),
        Row::optional(
            PCAP,
            "pcap",
            "FILE",
            "Capture file to write, with --backend pcap",
            "none; pcap needs one",
            |it| &mut it.backend.pcap,
        ),
        Row::one(
            FORCE,
            "force",
            "BOOL",
            "Replace the capture file if it exists, which is otherwise kept",
            "false",
            |it| &mut it.backend.force,
        )
        .switch(),
        Row::list(
            CPU,
            "cpu",
            "N[,M]",
            "Bind the thread that posts to CPU N, and the one that fills to M",
            "any",
            |it| &mut it.backend.cpu,
        )
        .commas()
        .dashes(),
    ],
};

choices! { Gso: "auto" => Self::Auto, "off" => Self::Off; }

/// The way onto the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendSettings {
    /// Which backend. A named one is never replaced by another.
    pub kind: BackendKind,
    /// The network interface to send from; `None` is the route's.
    pub interface: Option<InterfaceName>,
    /// The RDMA device; `None` is the interface's.
    pub device: Option<String>,
    /// Which queue pairs of it; `None` is what the destinations need.
    pub qp: Option<QueuePairKind>,
    /// How to wait for the RDMA device.
    pub completion: CompletionKind,
    /// How long to look before sleeping, with [`CompletionKind::Event`], in microseconds.
    pub spin_us: u32,
    /// Whether UDP and TCP send packets from where they lie.
    pub zerocopy: ZeroCopy,
    /// Whether UDP packets are cut out of long messages, by the kernel or the device.
    pub gso: Gso,
    /// How many seconds to try to connect to a TCP receiver that is not there yet, or is gone; 0 is not at
    /// all.
    pub reconnect: u32,
    /// The capture file to write, for [`BackendKind::Pcap`].
    pub pcap: Option<String>,
    /// Whether a capture file that exists is replaced.
    pub force: bool,
    /// CPUs to bind threads to: the one that posts, then the one that fills. Empty binds neither.
    pub cpu: Vec<u32>,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            kind: BackendKind::default(),
            interface: None,
            device: None,
            qp: None,
            completion: CompletionKind::default(),
            spin_us: CompletionMode::SPIN.as_micros() as u32,
            zerocopy: ZeroCopy::default(),
            gso: Gso::default(),
            reconnect: 0,
            pcap: None,
            force: false,
            cpu: Vec::new(),
        }
    }
}

impl BackendSettings {
    pub(crate) fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us.into())
    }

    pub(crate) fn reconnect(&self) -> Duration {
        Duration::from_secs(self.reconnect.into())
    }

    pub(super) fn check(&self, stream: &StreamSettings) -> Result<(), SettingsError> {
        self.check_queue_pair(stream)?;
        match (self.kind == BackendKind::Pcap, &self.pcap) {
            (true, Some(path)) if path.is_empty() => {
                return Err(SettingsError::unusable(PCAP, "``", "give the capture file a name"));
            }
            (true, Some(_)) | (false, None) => {}
            (true, None) => {
                let hint = format!("{BACKEND} pcap writes a capture file; name it");
                return Err(SettingsError::missing(PCAP, hint));
            }
            (false, Some(_)) => {
                let hint =
                    "only the pcap backend writes a capture file; choose it, or drop the file";
                return Err(SettingsError::conflict(PCAP, BACKEND, hint));
            }
        }
        match self.kind {
            BackendKind::Udp => built_by_kernel(stream, "udp")?,
            BackendKind::Tcp => {
                built_by_kernel(stream, "tcp")?;
                connectable(&stream.to)?;
            }
            BackendKind::Verbs if stream.ttl == Some(0) => {
                let hint = "packets of TTL 0 stay on this host, and a device sends to others; take udp, or 1";
                return Err(SettingsError::conflict(TTL, BACKEND, hint));
            }
            BackendKind::Auto | BackendKind::Verbs | BackendKind::Pcap | BackendKind::Null => {}
        }
        if self.device.as_deref() == Some("") {
            let hint = "give the name of an RDMA device, such as mlx5_0";
            return Err(SettingsError::unusable(DEVICE, "``", hint));
        }
        if let [_, _, _, ..] = self.cpu[..] {
            let given: Vec<String> = self.cpu.iter().map(u32::to_string).collect();
            let hint = "give that of the thread that sends, and perhaps that of the one that fills";
            return Err(SettingsError::unusable(CPU, given.join(","), hint));
        }
        let Some(InterfaceName::Address(address)) = &self.interface else { return Ok(()) };
        let other = |endpoint: &&Endpoint| {
            endpoint.host().address().is_some_and(|to| to.is_ipv4() != address.is_ipv4())
        };
        match stream.to.iter().find(other) {
            Some(endpoint) => {
                let hint = format!(
                    "{address} and {endpoint} are of different families; name the interface instead"
                );
                Err(SettingsError::conflict(INTERFACE, TO, hint))
            }
            None => Ok(()),
        }
    }

    /// Queues are reached by datagrams, and by nothing else; those build no frames.
    fn check_queue_pair(&self, stream: &StreamSettings) -> Result<(), SettingsError> {
        let queue = stream.to.iter().find(|endpoint| endpoint.queue().is_some());
        let socket = stream.to.iter().find(|endpoint| endpoint.queue().is_none());
        if let (Some(queue), Some(socket)) = (queue, socket) {
            let hint =
                format!("{queue} is a queue, {socket} is not; send to them one after the other");
            return Err(SettingsError::unusable(TO, format_args!("{queue}, {socket}"), hint));
        }
        if queue.is_some() && matches!(self.kind, BackendKind::Udp | BackendKind::Pcap) {
            let hint = "only verbs reaches queues; give HOST:PORT, or take verbs";
            return Err(SettingsError::conflict(TO, BACKEND, hint));
        }
        match (self.queue_pair(stream), queue) {
            (QueuePairKind::Raw, Some(queue)) => {
                let hint = format!("{queue} is a queue, which takes no frames: take ud");
                Err(SettingsError::conflict(QP, TO, hint))
            }
            (QueuePairKind::Ud, None) => {
                let hint = "datagrams go to queues: give GID/QPN/QKEY, as `doorbell recv` prints it for one";
                Err(SettingsError::conflict(QP, TO, hint))
            }
            (QueuePairKind::Ud, Some(_)) => {
                let frames = [
                    (VLAN, stream.vlan.is_some()),
                    (DST_MAC, stream.dst_mac.is_some()),
                    (SOURCE_PORT, stream.source_port.is_some()),
                ];
                match frames.into_iter().find(|(_, given)| *given) {
                    Some((key, _)) => {
                        let hint = format!("the device itself builds datagrams; drop {key}");
                        Err(SettingsError::conflict(key, QP, hint))
                    }
                    None => Ok(()),
                }
            }
            (QueuePairKind::Raw, None) => Ok(()),
        }
    }

    /// Which queue pairs are asked for, or needed.
    pub(crate) fn queue_pair(&self, stream: &StreamSettings) -> QueuePairKind {
        let is_queue = stream.to.iter().any(|endpoint| endpoint.queue().is_some());
        self.qp.unwrap_or(if is_queue { QueuePairKind::Ud } else { QueuePairKind::Raw })
    }
}

impl Settings {
    /// Whether udp can do all that is asked: [`Settings::check`] sees to it where udp is named, this is for
    /// where `auto` comes down to it.
    ///
    /// # Errors
    ///
    /// A key that only backends which build frames can serve.
    pub(crate) fn check_udp(&self) -> Result<(), SettingsError> {
        built_by_kernel(&self.stream, "udp")
    }
}

/// What changes the bytes on the wire is refused; which device sends them, and how it is waited for, does
/// not matter where there is none, so that one file serves a lab and its CI.
fn built_by_kernel(stream: &StreamSettings, backend: &str) -> Result<(), SettingsError> {
    let frames_only = [(VLAN, stream.vlan.is_some()), (DST_MAC, stream.dst_mac.is_some())];
    let Some((key, _)) = frames_only.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let hint = format!(
        "with {backend} the kernel builds the frames; drop {key}, or choose a backend that builds them \
         itself, such as pcap"
    );
    Err(SettingsError::conflict(key, BACKEND, hint))
}

/// A connection has one other end.
fn connectable(to: &[Endpoint]) -> Result<(), SettingsError> {
    let is_group = |it: &&Endpoint| it.host().address().is_some_and(|ip| ip.is_multicast());
    let Some(group) = to.iter().find(is_group) else { return Ok(()) };
    let hint = format!("{group} is multicast, and tcp connects to receivers one by one; use udp");
    Err(SettingsError::conflict(TO, BACKEND, hint))
}
