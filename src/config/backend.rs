//! The way onto the wire.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::{BACKEND, DEVICE, DST_MAC, INTERFACE, PCAP, QP, SOURCE_PORT, TO, VLAN};
use super::{
    BackendKind, BackendOptions, CompletionKind, ConfigError, Endpoint, Interface, QueuePairKind,
    StreamConfig,
};
use crate::backend::udp::ZeroCopy;

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

pub(super) fn backend(
    options: BackendOptions,
    stream: &StreamConfig,
) -> Result<BackendConfig, ConfigError> {
    let kind = options.kind.unwrap_or_default();
    let qp = queue_pair(options.qp, kind, stream)?;
    let choice = match (kind, options.pcap) {
        (BackendKind::Pcap, Some(path)) if path.is_empty() => {
            return Err(ConfigError::unusable(PCAP, "``", "give the capture file a name"));
        }
        (BackendKind::Pcap, Some(path)) => BackendChoice::Pcap(path.into()),
        (BackendKind::Pcap, None) => {
            return Err(ConfigError::missing(
                PCAP,
                format!("{BACKEND} pcap writes a capture file; name it"),
            ));
        }
        (_, Some(_)) => {
            let hint = "only the pcap backend writes a capture file; choose it, or drop the file";
            return Err(ConfigError::conflict(PCAP, BACKEND, hint));
        }
        (BackendKind::Auto, None) if qp == QueuePairKind::Ud => BackendChoice::Verbs,
        (BackendKind::Auto, None) => BackendChoice::Auto,
        (BackendKind::Verbs, None) => BackendChoice::Verbs,
        (BackendKind::Udp, None) => BackendChoice::Udp,
        (BackendKind::Tcp, None) => BackendChoice::Tcp,
    };
    match kind {
        BackendKind::Udp => served_by_kernel(stream, "udp")?,
        BackendKind::Tcp => {
            served_by_kernel(stream, "tcp")?;
            connectable(&stream.to)?;
        }
        BackendKind::Auto | BackendKind::Verbs | BackendKind::Pcap => {}
    }
    if matches!(kind, BackendKind::Verbs | BackendKind::Tcp) && stream.to.is_empty() {
        let hint =
            "only udp reaches the receiver on loopback that stands in for it; give HOST:PORT";
        return Err(ConfigError::missing(TO, hint));
    }
    if options.device.as_deref() == Some("") {
        return Err(ConfigError::unusable(
            DEVICE,
            "``",
            "give the name of an RDMA device, such as mlx5_0",
        ));
    }
    if let Some(Interface::Address(address)) = &options.interface {
        let other = |endpoint: &&Endpoint| {
            endpoint.host().address().is_some_and(|to| to.is_ipv4() != address.is_ipv4())
        };
        if let Some(endpoint) = stream.to.iter().find(other) {
            let hint = format!(
                "{address} and {endpoint} are of different families; name the interface instead"
            );
            return Err(ConfigError::conflict(INTERFACE, TO, hint));
        }
    }
    Ok(BackendConfig {
        choice,
        interface: options.interface,
        device: options.device,
        qp,
        completion: options.completion.unwrap_or_default(),
        spin: options.spin_us.map_or(SPIN, |spin| Duration::from_micros(spin.into())),
        zerocopy: options.zerocopy.unwrap_or_default(),
        reconnect: Duration::from_secs(options.reconnect.unwrap_or(0).into()),
    })
}

/// What changes the bytes on the wire is refused; which device sends them, and how it is waited for,
/// is of no account where there is none, so that one file serves a lab and its CI.
pub(super) fn served_by_kernel(stream: &StreamConfig, backend: &str) -> Result<(), ConfigError> {
    let frames_only = [(VLAN, stream.vlan.is_some()), (DST_MAC, stream.dst_mac.is_some())];
    let Some((key, _)) = frames_only.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let hint = format!(
        "with {backend} the kernel builds the frames; drop {}, or choose a backend that builds them \
         itself, such as pcap",
        key.name()
    );
    Err(ConfigError::conflict(key, BACKEND, hint))
}

/// A connection has one other end.
fn connectable(to: &[Endpoint]) -> Result<(), ConfigError> {
    let is_group = |it: &&Endpoint| it.host().address().is_some_and(|ip| ip.is_multicast());
    let Some(group) = to.iter().find(is_group) else { return Ok(()) };
    let hint = format!("{group} is multicast, and tcp connects to receivers one by one; use udp");
    Err(ConfigError::conflict(TO, BACKEND, hint))
}

/// Queues are reached by datagrams, and by nothing else; those build no frames.
fn queue_pair(
    asked: Option<QueuePairKind>,
    kind: BackendKind,
    stream: &StreamConfig,
) -> Result<QueuePairKind, ConfigError> {
    let queue = stream.to.iter().find(|endpoint| endpoint.queue().is_some());
    let socket = stream.to.iter().find(|endpoint| endpoint.queue().is_none());
    if let (Some(queue), Some(socket)) = (queue, socket) {
        let hint = format!("{queue} is a queue, {socket} is not; send to them one after the other");
        return Err(ConfigError::unusable(TO, format_args!("{queue}, {socket}"), hint));
    }
    if queue.is_some() && matches!(kind, BackendKind::Udp | BackendKind::Pcap) {
        let hint = "only verbs reaches queues; give HOST:PORT, or take verbs";
        return Err(ConfigError::conflict(TO, BACKEND, hint));
    }
    match (
        asked.unwrap_or(if queue.is_some() { QueuePairKind::Ud } else { QueuePairKind::Raw }),
        queue,
    ) {
        (QueuePairKind::Raw, Some(queue)) => {
            let hint = format!("{queue} is a queue, which takes no frames: take ud");
            Err(ConfigError::conflict(QP, TO, hint))
        }
        (QueuePairKind::Ud, None) => {
            let hint = "datagrams go to queues: give GID/QPN/QKEY, as `doorbell recv --backend verbs \
                        --qp ud` prints it";
            Err(ConfigError::conflict(QP, TO, hint))
        }
        (QueuePairKind::Ud, Some(_)) => {
            let frames = [
                (VLAN, stream.vlan.is_some()),
                (DST_MAC, stream.dst_mac.is_some()),
                (SOURCE_PORT, stream.source_port.is_some()),
            ];
            match frames.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => {
                    let hint = format!("the device itself builds datagrams; drop {}", key.name());
                    Err(ConfigError::conflict(key, QP, hint))
                }
                None => Ok(QueuePairKind::Ud),
            }
        }
        (QueuePairKind::Raw, None) => Ok(QueuePairKind::Raw),
    }
}

/// A few batches at 100 Gb/s, and less than it costs to sleep and be woken up.
const SPIN: Duration = Duration::from_micros(100);
