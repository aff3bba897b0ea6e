//! A socket that packets are taken from, many at once where the kernel merges them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::slice::Chunks;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::error::ReceiveError;
use super::placement::{Extent, Reception, Scratch, Target};
use super::window::Window;
use crate::backend::interface::Interface;
use crate::backend::socket::join;

/// A socket, bound, and member of its group if it has one.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    addr: SocketAddr,
    buffer: usize,
}

impl Socket {
    /// Binds a UDP socket to `addr`, and joins it if it is a multicast group, on `interface` or the
    /// one of the route. The receive buffer holds `buffer` bytes if the kernel grants them.
    pub(super) fn bind(
        addr: SocketAddr,
        interface: Option<&Interface>,
        buffer: usize,
    ) -> Result<Self, ReceiveError> {
        // Where the address says on which link it is, nobody else has to.
        let scoped = match (interface, addr) {
            (None, SocketAddr::V6(v6)) => interface_of(v6.scope_id()),
            _ => None,
        };
        let interface = interface.or(scoped.as_ref());
        let addr = located(addr, interface);
        let error = |source| ReceiveError::Bind { addr, source };
        if let (SocketAddr::V6(v6), Some(interface)) = (addr, interface)
            && ![0, interface.index].contains(&v6.scope_id())
        {
            let why = format!("its zone is another interface than {}", interface.name);
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let socket = RawSocket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP));
        let socket = socket.map_err(error)?;
        // The kernel doubles what it is asked for, to make room for its own: socket(7).
        let ask = buffer.div_ceil(2).min(MAX_BUFFER);
        if setsockopt(&socket, sockopt::RcvBufForce, &ask).is_err() {
            socket.set_recv_buffer_size(ask).map_err(error)?;
        }
        // What was sent as one message with segmentation offload, or merged by a network card, then
        // arrives as one, too: udp(7). Kernels before 5.0 hand it over packet by packet.
        if let Err(errno) = setsockopt(&socket, sockopt::UdpGroSegment, &true) {
            tracing::debug!("no UDP_GRO: {errno}");
        }
        // How many packets found no room is told along with those that did: socket(7).
        if let Err(errno) = setsockopt(&socket, sockopt::RxqOvfl, &1) {
            tracing::debug!("no SO_RXQ_OVFL: {errno}");
        }
        if addr.ip().is_multicast() {
            // A group is for everyone on this machine who joins it.
            socket.set_reuse_address(true).map_err(error)?;
        }
        // A socket that is bound to a group hears that group only, and not all that any socket of
        // this machine has joined: ip(7), IP_MULTICAST_ALL.
        socket.bind(&addr.into()).map_err(error)?;
        if addr.ip().is_multicast() {
            join(&socket, addr.ip(), interface).map_err(|source| {
                let interface = interface.map(|interface| interface.name.clone());
                ReceiveError::Join { group: addr.ip(), interface, source }
            })?;
        }
        let granted = socket.recv_buffer_size().map_err(error)?;
        if granted < buffer {
            tracing::debug!("a receive buffer of {buffer} bytes was asked for, {granted} granted");
        }
        let socket = UdpSocket::from(socket);
        let addr = socket.local_addr().map_err(error)?;
        Ok(Self { socket, addr, buffer: granted })
    }

    /// Where it is bound to, the port being what the kernel chose if 0 was asked for.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes of the receive buffer that the kernel granted, its own included.
    pub(super) fn buffer(&self) -> usize {
        self.buffer
    }

    /// Receives what the kernel has in one piece, the payload in its place if it belongs there.
    pub(super) fn receive(
        &self,
        message: &mut Message,
        target: Option<Target<'_>>,
        flags: MsgFlags,
    ) -> Result<(), Errno> {
        let Message { scratch, control, source, dropped, .. } = message;
        let (extent, reception) = scratch.receive(target, |pieces| {
            let control = Some(control.as_mut_slice());
            let socket = self.socket.as_raw_fd();
            let received = recvmsg::<SockaddrStorage>(socket, pieces, control, flags)?;
            *source = received.address.and_then(socket_address);
            let mut extent = Extent { len: received.bytes, segment: received.bytes.max(1) };
            // Not a word of it as long as none was.
            *dropped = 0;
            for control in received.cmsgs()? {
                match control {
                    ControlMessageOwned::UdpGroSegments(len) if len > 0 => {
                        extent.segment = len as usize
                    }
                    ControlMessageOwned::RxqOvfl(count) => *dropped = count,
                    _ => {}
                }
            }
            Ok::<_, Errno>(extent)
        })?;
        (message.extent, message.reception) = (extent, reception);
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What was received in one piece: a datagram, or several that the kernel merged.
#[derive(Debug)]
pub(super) struct Message {
    scratch: Scratch,
    control: Vec<u8>,
    extent: Extent,
    reception: Reception,
    source: Option<SocketAddr>,
    dropped: u32,
}

impl Message {
    pub(super) fn new() -> Self {
        let extent = Extent { len: 0, segment: 1 };
        let control = cmsg_space!(i32, u32);
        let reception = Reception::Whole;
        Self { scratch: Scratch::new(), control, extent, reception, source: None, dropped: 0 }
    }

    /// The datagrams, at least one, which may be empty: of a message whose payload is not in its
    /// place already.
    pub(super) fn datagrams(&self) -> Datagrams<'_> {
        match self.extent.len {
            0 => Datagrams::Empty(1),
            len => Datagrams::Some(self.scratch.bytes[..len].chunks(self.extent.segment)),
        }
    }

    /// Who sent it, if the kernel says.
    pub(super) fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// How many datagrams it is.
    pub(super) fn count(&self) -> usize {
        match self.reception {
            Reception::InPlace { heads, .. } => heads,
            Reception::Whole => self.datagrams().len(),
        }
    }

    /// Gives the message to the window that said where its payload was to go. Returns how many
    /// datagrams it was.
    pub(super) fn deliver(&self, window: &mut Window, substream: usize) -> usize {
        match self.reception {
            Reception::InPlace { heads, head_len } => {
                let each = self.scratch.heads.chunks_exact(head_len).take(heads);
                each.for_each(|head| window.placed(substream, head));
                heads
            }
            Reception::Whole => {
                let datagrams = self.datagrams();
                let count = datagrams.len();
                datagrams.for_each(|bytes| window.datagram_from(substream, self.source, bytes));
                count
            }
        }
    }

    /// Packets that found no room in the buffer of the socket that was last received from, modulo
    /// 2^32, since it was bound.
    pub(super) fn dropped(&self) -> u32 {
        self.dropped
    }
}

/// The datagrams of a message.
pub(super) enum Datagrams<'a> {
    /// This many, without any bytes.
    Empty(usize),
    /// Cut from one piece.
    Some(Chunks<'a, u8>),
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Empty(left) => {
                *left = left.checked_sub(1)?;
                Some(&[])
            }
            Self::Some(chunks) => chunks.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self {
            Self::Empty(left) => *left,
            Self::Some(chunks) => chunks.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Datagrams<'_> {}

fn socket_address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| SocketAddr::from((it.ip(), it.port())));
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| SocketAddr::from((it.ip(), it.port()))))
}

/// The interface with this index; none has 0.
fn interface_of(index: u32) -> Option<Interface> {
    let name = if_indextoname(index).ok()?;
    Interface::find(name.to_str().ok()?).ok()
}

/// Where to bind: an address that means all of the machine's means that of the interface if one is
/// named, and one with a meaning on one link only is on that of the interface.
fn located(addr: SocketAddr, interface: Option<&Interface>) -> SocketAddr {
    let Some(interface) = interface else { return addr };
    let mut addr = addr;
    if addr.ip().is_unspecified()
        && let Some(ip) = interface.source_address(addr.ip())
    {
        addr.set_ip(ip);
    }
    if let SocketAddr::V6(v6) = &mut addr
        && v6.scope_id() == 0
        && (v6.ip().is_unicast_link_local() || v6.ip().is_multicast())
    {
        v6.set_scope_id(interface.index);
    }
    addr
}

/// The kernel takes a C `int`, and doubles it.
const MAX_BUFFER: usize = i32::MAX as usize / 2;
