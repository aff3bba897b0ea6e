//! A conversation with the kernel: one request, one reply.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::ResolveError;

/// A routing socket: rtnetlink(7).
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, ResolveError> {
        let open = || {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            )?;
            // Port 0 is the kernel. From anybody else, a connected socket takes no messages:
            // netlink_getsockbyportid() in net/netlink/af_netlink.c.
            connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(REPLY_SECONDS))?;
            nix::Result::Ok(socket)
        };
        let socket = open().map_err(|errno| ResolveError::Netlink {
            request: "open a routing socket",
            source: errno.into(),
        })?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; REPLY_BYTES] })
    }

    /// The reply to `request`, which is about one object. An errno is the kernel's reply too.
    pub(super) fn ask(&mut self, request: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        for _ in 0..MAX_READS {
            // With MSG_TRUNC, the length is that of the message, also if the buffer is shorter.
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC)
            {
                // With a time limit, not even SA_RESTART restarts the call: signal(7).
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                other => other?,
            };
            let bytes = self.buffer.get(..length).ok_or_else(|| {
                invalid(format!("the reply of {length} bytes is longer than {REPLY_BYTES}"))
            })?;
            if let Some(reply) = parse(bytes, self.sequence) {
                return reply;
            }
        }
        Err(invalid(format!("{MAX_READS} messages, and none is the reply")))
    }
}

/// The reply in `bytes`; `None` if it is to another request.
pub(super) fn parse(bytes: &[u8], sequence: u32) -> Option<io::Result<RouteNetlinkMessage>> {
    let header = match NetlinkBuffer::new_checked(bytes) {
        Ok(header) => header,
        Err(error) => return Some(Err(invalid(error))),
    };
    if header.sequence_number() != sequence {
        return None;
    }
    Some(match NetlinkMessage::deserialize(bytes).map(|message| message.payload) {
        Ok(NetlinkPayload::InnerMessage(reply)) => Ok(reply),
        Ok(NetlinkPayload::Error(error)) => {
            // Errors are negative; 0 would acknowledge what nobody asked to have acknowledged.
            match error.code.and_then(|code| code.get().checked_neg()).filter(|it| *it > 0) {
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(invalid("an acknowledgement, where a reply was asked for")),
            }
        }
        Ok(_) => Err(invalid("neither a reply nor an error")),
        Err(error) => Err(invalid(error)),
    })
}

/// The error for a reply that makes no sense.
pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The kernel's own bound: NLMSG_GOODSIZE is a page, or 8 KiB where pages are larger. A description
/// of an interface may take more, so there is room to spare.
const REPLY_BYTES: usize = 64 << 10;
/// The kernel replies before send(2) returns, so this is over only if something is badly wrong.
const REPLY_SECONDS: i64 = 5;
/// Replies to earlier requests, and interrupted calls, before it is given up.
const MAX_READS: usize = 16;
