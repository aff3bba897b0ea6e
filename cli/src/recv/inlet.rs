//! Where packets come from: sockets, connections, a queue of datagrams, or a capture.

use std::fs::File;
use std::io::BufReader;
use std::net::{SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorbell::backend::OpenError;
use doorbell::backend::interface::Interface;
use doorbell::backend::verbs::{DatagramReceiver, DatagramRequest, QueueAddress};
use doorbell::receive::{
    Capture, CaptureError, Connections, Listener, ReceiveError, SourceFilter, Window,
};
use doorbell::settings::{Endpoint, Host, QueuePairKind};
use indicatif::HumanBytes;

use super::super::args::{RecvArguments, RecvBackend};
use super::super::exit::Failure;
use super::origin::Origins;

/// Where packets come from.
pub enum Inlet {
    /// Sockets, one for each substream.
    Sockets(Listener),
    /// A queue of datagrams, which is one substream.
    Queue(Box<DatagramReceiver>),
    /// Connections, each a substream.
    Connections(Connections),
    /// A file, with a substream for each address.
    Capture { capture: Capture, path: PathBuf },
}

impl Inlet {
    pub fn open(arguments: &RecvArguments) -> Result<Self, Failure> {
        let interface = arguments.interface.as_ref().map(|it| Interface::find(&it.to_string()));
        let interface = interface.transpose()?;
        let buffer = usize::try_from(arguments.buffer.bytes()).unwrap_or(usize::MAX);
        let filter = arguments.source_filter;
        let endpoints = match Origins::of(&arguments.from).map_err(Failure::Usage)? {
            _ if arguments.backend == RecvBackend::Udp && arguments.qp.is_some() => {
                return Err(Failure::Usage("--qp goes with --backend verbs".into()));
            }
            Origins::Datagrams(endpoints) => endpoints,
            _ if arguments.backend != RecvBackend::Udp => {
                return Err(Failure::Usage("--backend verbs receives no TCP and no files".into()));
            }
            Origins::Capture(path) => return Self::capture(path, filter),
            Origins::Tcp(endpoints) => {
                let max_heap = usize::try_from(arguments.max_heap.bytes()).unwrap_or(usize::MAX);
                let addresses = resolve(&endpoints)?;
                return Ok(Self::Connections(Connections::listen(&addresses, max_heap, filter)?));
            }
        };
        let queue = endpoints.iter().find_map(|it| it.queue());
        match (arguments.backend, arguments.qp) {
            (RecvBackend::Udp, _) if queue.is_none() => {
                let addresses = resolve(&endpoints)?;
                let listener = Listener::bind(&addresses, interface.as_ref(), buffer)?;
                Ok(Self::Sockets(listener.only_from(filter)))
            }
            (RecvBackend::Udp, _) => {
                Err(Failure::Usage("--from: queues go with --backend verbs".into()))
            }
            (RecvBackend::Verbs, _) if filter.is_some() => Err(Failure::Usage(
                "--source-filter: a queue of datagrams does not say who sent them".into(),
            )),
            (RecvBackend::Verbs, Some(QueuePairKind::Ud)) => {
                let group = group(&endpoints)?;
                let request = DatagramRequest {
                    interface,
                    device: arguments.device.clone(),
                    key: group.map_or(arguments.qkey, |group| group.key),
                    group: group.map(|group| group.ip()),
                    buffer,
                };
                Ok(Self::Queue(Box::new(DatagramReceiver::open(&request)?)))
            }
            (RecvBackend::Verbs, _) => Err(Failure::Usage(
                "--backend verbs receives datagrams: add --qp ud. What is sent as raw packets, \
                 --backend udp receives"
                    .into(),
            )),
        }
    }

    fn capture(path: &Path, filter: Option<SourceFilter>) -> Result<Self, Failure> {
        let error = |source| ReceiveError::Capture { path: path.to_owned(), source };
        let file = File::open(path).map_err(|source| error(CaptureError::Read(source)))?;
        let file = BufReader::with_capacity(FILE_BUFFER, file);
        let capture = Capture::new(Box::new(file), filter).map_err(error)?;
        Ok(Self::Capture { capture, path: path.to_owned() })
    }

    /// Number of substreams that are known beforehand.
    pub fn substreams(&self) -> usize {
        match self {
            Self::Sockets(listener) => listener.local_addrs().count(),
            Self::Queue(_) => 1,
            Self::Connections(_) | Self::Capture { .. } => 0,
        }
    }

    /// Where each substream arrives, as a sender's `--to` takes it.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Sockets(listener) => listener.local_addrs().map(|it| it.to_string()).collect(),
            Self::Queue(queue) => vec![queue.address().to_string()],
            Self::Connections(connections) => connections.names().to_vec(),
            Self::Capture { capture, .. } => capture.names().to_vec(),
        }
    }

    /// Where a sender finds this.
    pub fn announcement(&self) -> String {
        let (names, of) = match self {
            Self::Sockets(listener) => {
                let buffer = HumanBytes(listener.buffer() as u64);
                (self.names(), format!(", with a buffer of {buffer}"))
            }
            Self::Queue(queue) => {
                let buffer = HumanBytes(queue.buffer() as u64);
                (self.names(), format!(" of {}, with a buffer of {buffer}", queue.device()))
            }
            Self::Connections(connections) => {
                let names = connections.local_addrs().map(|it| format!("tcp:{it}"));
                (names.collect(), ", for connections".into())
            }
            Self::Capture { path, .. } => {
                return format!("reading {}", path.display());
            }
        };
        let at = match names.as_slice() {
            [first, .., last] if names.len() > SHOWN => {
                format!("{} addresses, {first} to {last}", names.len())
            }
            all => all.join(", "),
        };
        format!("listening at {at}{of}")
    }

    /// Packets that were dropped for lack of room, as far as it is known: a queue does not tell.
    pub fn dropped(&self) -> u64 {
        match self {
            Self::Sockets(listener) => listener.dropped(),
            _ => 0,
        }
    }

    /// Packets, or connections, from elsewhere than `--source-filter` says.
    pub fn filtered(&self) -> u64 {
        match self {
            Self::Sockets(listener) => listener.filtered(),
            Self::Queue(_) => 0,
            Self::Connections(connections) => connections.refused(),
            Self::Capture { capture, .. } => capture.filtered(),
        }
    }

    /// Whether packets come from this machine: a sender here can wait for room.
    pub fn is_local(&self) -> bool {
        let source = match self {
            Self::Sockets(listener) => listener.latest_source(),
            _ => None,
        };
        // Nobody else's address can be bound to.
        source.is_some_and(|it| UdpSocket::bind(SocketAddr::new(it.ip(), 0)).is_ok())
    }

    /// Whether a capture is read, which does not come by itself.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Capture { .. })
    }

    /// Whether nothing more comes: all that was to come has, or there is no more to read.
    pub fn is_over(&self, window: &Window) -> bool {
        match self {
            Self::Sockets(_) | Self::Queue(_) => window.is_stopped(),
            Self::Connections(connections) => connections.is_complete() && window.is_stopped(),
            Self::Capture { capture, .. } => capture.is_over(),
        }
    }

    /// Waits up to `patience` for packets, and gives some of what is there to `window`. Returns how
    /// many.
    pub fn receive(
        &mut self,
        window: &mut Window,
        patience: Duration,
    ) -> Result<usize, ReceiveError> {
        match self {
            Self::Sockets(listener) => listener.receive(window, patience),
            Self::Queue(queue) => queue
                .receive(patience, |message| window.datagram(0, message))
                .map_err(|source| ReceiveError::Device { device: queue.device().into(), source }),
            Self::Connections(connections) => connections.receive(window, patience),
            Self::Capture { capture, path } => capture
                .receive(window)
                .map_err(|source| ReceiveError::Capture { path: path.clone(), source }),
        }
    }
}

/// The multicast group to join, if one is asked for: the number of a queue of its own is the device's
/// choice.
fn group(from: &[&Endpoint]) -> Result<Option<QueueAddress>, Failure> {
    match from {
        [] => Ok(None),
        [endpoint] if endpoint.count() == 1 => match endpoint.queue() {
            Some(queue) if queue.ip().is_multicast() => Ok(Some(queue)),
            None if endpoint.host().address().is_some_and(|ip| ip.is_unspecified()) => Ok(None),
            _ => Err(Failure::Usage(format!(
                "--from: {endpoint} is no group of queues, such as 239.1.0.0/0xffffff; leave it out \
                 to receive at an address of the --interface or the --device"
            ))),
        },
        _ => Err(Failure::Usage("--from: a queue of datagrams has one group at most".into())),
    }
}

fn resolve(endpoints: &[&Endpoint]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for endpoint in endpoints.iter().flat_map(|it| it.expand()) {
        let (host, port) = (endpoint.host().to_string(), endpoint.port());
        let error = |why: String| Failure::Open(OpenError::new("look up", &host, why));
        if let Host::V6(ip, Some(zone)) = endpoint.host() {
            // getaddrinfo(3) takes a zone for link-local addresses alone.
            let index = match zone.parse() {
                Ok(index) => index,
                Err(_) => Interface::find(zone)?.index,
            };
            addresses.push(SocketAddrV6::new(*ip, port, 0, index).into());
            continue;
        }
        let mut found =
            (host.as_str(), port).to_socket_addrs().map_err(|source| error(source.to_string()))?;
        addresses.push(found.next().ok_or_else(|| error("it has no address".into()))?);
    }
    Ok(addresses)
}

/// More addresses are not listed one by one.
const SHOWN: usize = 4;
/// Of a capture, read at once.
const FILE_BUFFER: usize = 1 << 20;
