//! What the kernel tells about sockets: sock_diag(7).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// A conversation with the kernel about UDP sockets.
pub(crate) struct Diagnosis {
    socket: OwnedFd,
    sequence: u32,
}

/// What a socket has to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketBacklog {
    /// Memory that it takes.
    pub(crate) bytes: u32,
    /// How much it may take.
    pub(crate) capacity: u32,
}

impl Diagnosis {
    pub(crate) fn open() -> Result<Self, Errno> {
        let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
        // Port 0 is the kernel; nobody else is listened to.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(REPLY_SECONDS))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// What the socket has that packets to `to` go to; `None` if there is no such socket.
    pub(crate) fn backlog(&mut self, to: SocketAddr) -> Result<Option<SocketBacklog>, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        send(self.socket.as_raw_fd(), &request(to, self.sequence), MsgFlags::empty())?;
        let mut reply = [0; REPLY_BYTES];
        loop {
            match recv(self.socket.as_raw_fd(), &mut reply, MsgFlags::empty()) {
                Ok(len) if word(&reply[..len], SEQUENCE) == Some(self.sequence) => {
                    return parse(&reply[..len]);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(to: SocketAddr, sequence: u32) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &(REQUEST_LEN as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(SEQUENCE, &sequence.to_ne_bytes());
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    put(HEADER_LEN, &[family as u8, libc::IPPROTO_UDP as u8, 1 << (INET_DIAG_SKMEMINFO - 1), 0]);
    // In any state.
    put(HEADER_LEN + 4, &u32::MAX.to_ne_bytes());
    // The kernel looks up who gets a packet from the first address to the second.
    put(HEADER_LEN + 10, &to.port().to_be_bytes());
    let mut ip = [0; 16];
    match to.ip() {
        IpAddr::V4(v4) => ip[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => ip = v6.octets(),
    }
    put(HEADER_LEN + 12, &ip);
    put(HEADER_LEN + 28, &ip);
    if let SocketAddr::V6(v6) = to {
        put(HEADER_LEN + 44, &v6.scope_id().to_ne_bytes());
    }
    // No cookie: whichever socket it is.
    put(HEADER_LEN + 48, &[0xff; 8]);
    bytes
}

/// Reads `struct inet_diag_msg` and the attribute after it that tells of memory.
fn parse(reply: &[u8]) -> Result<Option<SocketBacklog>, Errno> {
    let kind = reply.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    if kind == Some(NLMSG_ERROR) {
        let errno = word(reply, HEADER_LEN).map_or(0, |errno| (errno as i32).wrapping_neg());
        return match Errno::from_raw(errno) {
            Errno::ENOENT => Ok(None),
            errno => Err(errno),
        };
    }
    let mut rest = reply.get(ATTRIBUTES..).unwrap_or_default();
    while let Some(&[a, b, c, d]) = rest.first_chunk() {
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        if kind == u16::from(INET_DIAG_SKMEMINFO)
            && let (Some(bytes), Some(capacity)) = (word(rest, 4), word(rest, 8))
        {
            return Ok(Some(SocketBacklog { bytes, capacity }));
        }
        rest = rest.get(len.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    Err(Errno::EBADMSG)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER_LEN: usize = 16;
const SEQUENCE: usize = 8;
const REQUEST_LEN: usize = HEADER_LEN + 56;
/// After `struct inet_diag_msg` of 72 bytes.
const ATTRIBUTES: usize = HEADER_LEN + 72;
const REPLY_BYTES: usize = 1024;
const REPLY_SECONDS: i64 = 1;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `SK_MEMINFO_RMEM_ALLOC` and `SK_MEMINFO_RCVBUF` are its first words.
const INET_DIAG_SKMEMINFO: u8 = 7;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_fills_and_empties() {
        // Where there is no IPv6 there is nothing to find out about it.
        let v6 = UdpSocket::bind("[::1]:0").is_ok().then_some("[::1]:0");
        for address in ["127.0.0.1:0"].into_iter().chain(v6) {
            let receiver = UdpSocket::bind(address).unwrap();
            let to = receiver.local_addr().unwrap();
            let mut diagnosis = Diagnosis::open().unwrap();
            let empty = diagnosis.backlog(to).unwrap().unwrap();
            assert!(empty.bytes == 0 && empty.capacity > 0, "{empty:?}");
            UdpSocket::bind(address).unwrap().send_to(&[0; 5000], to).unwrap();
            let full = diagnosis.backlog(to).unwrap().unwrap();
            assert!(full.bytes >= 5000, "{full:?}");
            receiver.recv(&mut [0; 5000]).unwrap();
            drop(receiver);
            assert_eq!(diagnosis.backlog(to), Ok(None));
        }
    }

    #[test]
    fn a_reply_that_ends_early_is_no_reply() {
        assert_eq!(parse(&[0; 100]), Err(Errno::EBADMSG));
        assert_eq!(parse(&[]), Err(Errno::EBADMSG));
    }
}
