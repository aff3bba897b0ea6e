//! TCP connections, each a substream.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::ReceiveError;
use super::listener::SourceFilter;
use super::packet_stream::{OutOfStep, PacketStream};
use super::window::Window;

/// Takes TCP connections, each of which is a substream: packets follow each other without anything in
/// between. Nothing is lost on the way, and a sender waits for whoever reads.
#[derive(Debug)]
pub struct Connections {
    listeners: Vec<TcpListener>,
    /// How many connections there were to each.
    accepted: Vec<u64>,
    connections: Vec<Connection>,
    names: Vec<String>,
    max_payload: usize,
    filter: Option<SourceFilter>,
    refused: u64,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    stream: PacketStream,
    source: SocketAddr,
    substream: usize,
}

impl Connections {
    /// Listens at each address, and takes packets of `max_payload` bytes of payload at most, from there
    /// alone if there is a filter.
    ///
    /// # Errors
    ///
    /// If there is no such address here, or it is taken.
    pub fn listen(
        addresses: &[SocketAddr],
        max_payload: usize,
        filter: Option<SourceFilter>,
    ) -> Result<Self, ReceiveError> {
        let listen = |&addr: &SocketAddr| {
            let error = |source| ReceiveError::Bind { addr, source };
            let listener = TcpListener::bind(addr).map_err(error)?;
            listener.set_nonblocking(true).map_err(error)?;
            Ok(listener)
        };
        let listeners = addresses.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            accepted: vec![0; listeners.len()],
            listeners,
            connections: Vec::new(),
            names: Vec::new(),
            max_payload,
            filter,
            refused: 0,
        })
    }

    /// Where each socket listens.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok())
    }

    /// What each substream is: where it was sent to, and from where.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Connections that came from elsewhere than from where they may.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether there was a connection at each address.
    pub fn is_complete(&self) -> bool {
        self.accepted.iter().all(|&count| count > 0)
    }

    /// Waits up to `patience` for connections and packets, and gives some of what is there to `window`.
    /// Returns how many packets, and connections that began or ended.
    ///
    /// # Errors
    ///
    /// If no connection can be taken any more.
    pub fn receive(
        &mut self,
        window: &mut Window,
        patience: Duration,
    ) -> Result<usize, ReceiveError> {
        let listeners = self.listeners.iter().map(AsFd::as_fd);
        let sockets = listeners.chain(self.connections.iter().map(|it| it.socket.as_fd()));
        let mut ready: Vec<PollFd<'_>> =
            sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        match poll(&mut ready, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(0),
            Ok(_) => {}
            Err(errno) => return Err(ReceiveError::Socket(errno.into())),
        }
        let ready: Vec<bool> = ready.iter().map(|it| it.any().unwrap_or(true)).collect();
        let (listeners, connections) = ready.split_at(self.listeners.len());
        let mut events = 0;
        for at in (0..connections.len()).rev().filter(|&at| connections[at]) {
            let connection = &mut self.connections[at];
            let (packets, is_open) = connection.receive(window);
            events += packets;
            if !is_open {
                events += 1;
                window.close_substream(connection.substream);
                self.connections.swap_remove(at);
            }
        }
        for at in (0..listeners.len()).filter(|&at| listeners[at]) {
            events += self.accept(at, window)?;
        }
        Ok(events)
    }

    fn accept(&mut self, at: usize, window: &mut Window) -> Result<usize, ReceiveError> {
        let listener = &self.listeners[at];
        let (socket, source) = match listener.accept() {
            Ok(accepted) => accepted,
            // Gone again before it was taken: accept(2).
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) =>
            {
                return Ok(0);
            }
            Err(error) => return Err(ReceiveError::Socket(error)),
        };
        if self.filter.is_some_and(|filter| !filter.takes(Some(source))) {
            self.refused += 1;
            return Ok(1);
        }
        socket.set_nonblocking(true).map_err(ReceiveError::Socket)?;
        let to = listener.local_addr().map_err(ReceiveError::Socket)?;
        self.accepted[at] += 1;
        self.names.push(format!("{to} from {source}"));
        let substream = window.add_substream();
        let stream = PacketStream::new(self.max_payload);
        self.connections.push(Connection { socket, stream, source, substream });
        Ok(1)
    }
}

impl Connection {
    /// Takes what is there, up to a turn's worth. Says how many packets, and whether more may come.
    fn receive(&mut self, window: &mut Window) -> (usize, bool) {
        let mut packets = 0;
        match self.socket.read(self.stream.room()) {
            Ok(0) => {
                if self.stream.is_within_packet() {
                    tracing::warn!("the connection from {} ended within a packet", self.source);
                }
                return (packets, false);
            }
            Ok(len) => self.stream.filled(len),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return (packets, true);
            }
            Err(error) => {
                tracing::warn!("the connection from {} broke: {error}", self.source);
                return (packets, false);
            }
        }
        loop {
            match self.stream.next() {
                Ok(Some(packet)) => {
                    window.datagram_from(self.substream, Some(self.source), packet);
                    packets += 1;
                }
                Ok(None) => return (packets, true),
                Err(OutOfStep) => {
                    tracing::error!(
                        "the connection from {} is closed: it carries something else than SPEAD \
                         packets, or one longer than a heap may be",
                        self.source
                    );
                    window.not_spead();
                    return (packets, false);
                }
            }
        }
    }
}
