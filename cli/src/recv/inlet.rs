//! Where packets come from: sockets, or a queue of datagrams.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use doorbell::backend::OpenError;
use doorbell::backend::interface::Interface;
use doorbell::backend::verbs::{DatagramReceiver, DatagramRequest, QueueAddress};
use doorbell::receive::{Listener, ReceiveError, Window};
use doorbell::settings::{Endpoint, QueuePairKind};
use indicatif::HumanBytes;

use super::super::args::{RecvArguments, RecvBackend};
use super::super::exit::Failure;

/// Where packets come from.
pub enum Inlet {
    /// Sockets, one for each substream.
    Sockets(Listener),
    /// A queue of datagrams, which is one substream.
    Queue(Box<DatagramReceiver>),
}

impl Inlet {
    pub fn open(arguments: &RecvArguments) -> Result<Self, Failure> {
        let interface = arguments.interface.as_ref().map(|it| Interface::find(&it.to_string()));
        let interface = interface.transpose()?;
        let buffer = usize::try_from(arguments.buffer.bytes()).unwrap_or(usize::MAX);
        let queue = arguments.from.iter().find_map(Endpoint::queue);
        match (arguments.backend, arguments.qp) {
            (RecvBackend::Udp, None) if queue.is_none() => {
                let addresses = resolve(&arguments.from)?;
                Ok(Self::Sockets(Listener::bind(&addresses, interface.as_ref(), buffer)?))
            }
            (RecvBackend::Udp, _) => {
                Err(Failure::Usage("--qp and queues go with --backend verbs".into()))
            }
            (RecvBackend::Verbs, Some(QueuePairKind::Ud)) => {
                let group = group(&arguments.from)?;
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

    /// Number of substreams.
    pub fn substreams(&self) -> usize {
        match self {
            Self::Sockets(listener) => listener.local_addrs().count(),
            Self::Queue(_) => 1,
        }
    }

    /// Where each substream arrives, as a sender's `--to` takes it.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Sockets(listener) => listener.local_addrs().map(|it| it.to_string()).collect(),
            Self::Queue(queue) => vec![queue.address().to_string()],
        }
    }

    /// Where a sender finds this.
    pub fn announcement(&self) -> String {
        let names = self.names();
        let at = match names.as_slice() {
            [first, .., last] if names.len() > SHOWN => {
                format!("{} addresses, {first} to {last}", names.len())
            }
            all => all.join(", "),
        };
        let buffer = match self {
            Self::Sockets(listener) => listener.buffer(),
            Self::Queue(queue) => queue.buffer(),
        };
        let device = match self {
            Self::Sockets(_) => String::new(),
            Self::Queue(queue) => format!(" of {}", queue.device()),
        };
        format!("listening at {at}{device}, with a buffer of {}", HumanBytes(buffer as u64))
    }

    /// Packets that were dropped for lack of room, as far as it is known: a queue does not tell.
    pub fn dropped(&self) -> u64 {
        match self {
            Self::Sockets(listener) => listener.dropped(),
            Self::Queue(_) => 0,
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
        }
    }
}

/// The multicast group to join, if one is asked for: the number of a queue of its own is the device's
/// choice.
fn group(from: &[Endpoint]) -> Result<Option<QueueAddress>, Failure> {
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

fn resolve(endpoints: &[Endpoint]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for endpoint in endpoints.iter().flat_map(Endpoint::expand) {
        let host = endpoint.host().to_string();
        let error = |why: String| Failure::Open(OpenError::new("look up", &host, why));
        let mut found = (host.as_str(), endpoint.port())
            .to_socket_addrs()
            .map_err(|source| error(source.to_string()))?;
        addresses.push(found.next().ok_or_else(|| error("it has no address".into()))?);
    }
    Ok(addresses)
}

/// More addresses are not listed one by one.
const SHOWN: usize = 4;
