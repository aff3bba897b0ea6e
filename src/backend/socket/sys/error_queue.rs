//! What the kernel says about messages that it took: the error queue of a socket, `recvmmsg(2)` with
//! `MSG_ERRQUEUE`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{fmt, mem, ptr};

use libc::{cmsghdr, mmsghdr, sock_extended_err};
use nix::errno::Errno;

use super::Pinned;

/// An entry of the error queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) enum Notice {
    /// The kernel no longer reads the memory of zero-copy messages, `first` to `last` in the order
    /// of sending, as it counts them; it has copied some if `copied`.
    Released { first: u32, last: u32, copied: bool },
    /// What came back by ICMP about a packet, and where that was sent to.
    Icmp { errno: Errno, destination: Option<SocketAddr> },
    /// What a call has returned already.
    Known,
}

/// Room for entries of the error queue.
pub(in crate::backend) struct ErrorQueue {
    headers: Pinned<mmsghdr>,
    reports: Pinned<ExtendedError>,
    names: Pinned<libc::sockaddr_in6>,
}

impl ErrorQueue {
    /// What several batches leave behind: notifications that follow each other are one entry.
    pub(in crate::backend) const ENTRIES: usize = 16;

    pub(in crate::backend) fn new() -> Self {
        // SAFETY: structures of integers and pointers.
        unsafe {
            Self {
                headers: Pinned::zeroed(Self::ENTRIES),
                reports: Pinned::zeroed(Self::ENTRIES),
                names: Pinned::zeroed(Self::ENTRIES),
            }
        }
    }

    /// Takes at most `most` entries, no more than [`ErrorQueue::ENTRIES`], from the queue of a
    /// socket, and says how many; there may be more if it is all that was asked for.
    pub(in crate::backend) fn take(&mut self, socket: BorrowedFd<'_>, most: usize) -> usize {
        for entry in 0..most {
            // SAFETY: a structure of integers and pointers.
            let mut header: mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_control = self.reports.at(entry..entry + 1).cast();
            header.msg_hdr.msg_controllen = size_of::<ExtendedError>() as _;
            header.msg_hdr.msg_name = self.names.at(entry..entry + 1).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as _;
            self.headers.set(entry, header);
        }
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the headers are initialised, and point to arrays that are alive and as long as
        // they say; `&mut self` makes this the only access.
        let taken = unsafe {
            let headers = self.headers.at(0..most);
            libc::recvmmsg(socket.as_raw_fd(), headers, most as _, flags, ptr::null_mut())
        };
        // EAGAIN: there are none.
        taken.max(0) as usize
    }

    /// One of the entries that were taken last.
    pub(in crate::backend) fn notice(&self, entry: usize) -> Notice {
        // SAFETY: in bounds, and of structures of integers and pointers, which `take` has initialised.
        let (header, report, name) = unsafe {
            (
                self.headers.at(entry..entry + 1).read().msg_hdr,
                self.reports.at(entry..entry + 1).read(),
                self.names.at(entry..entry + 1).read(),
            )
        };
        report.notice(&name, header.msg_namelen as usize)
    }
}

impl ExtendedError {
    /// What it says of a packet to `name`.
    fn notice(&self, name: &libc::sockaddr_in6, name_len: usize) -> Notice {
        let is_report = matches!(
            (self.header.cmsg_level, self.header.cmsg_type),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        let len = mem::offset_of!(ExtendedError, offender);
        if !is_report || !(len..=size_of::<ExtendedError>()).contains(&{ self.header.cmsg_len }) {
            return Notice::Known;
        }
        let error = self.error;
        match error.ee_origin {
            ORIGIN_ZEROCOPY if error.ee_errno == 0 => Notice::Released {
                first: error.ee_info,
                last: error.ee_data,
                copied: error.ee_code & CODE_COPIED != 0,
            },
            libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => Notice::Icmp {
                errno: Errno::from_raw(error.ee_errno as i32),
                destination: destination(name, name_len),
            },
            _ => Notice::Known,
        }
    }
}

impl fmt::Debug for ErrorQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorQueue").finish_non_exhaustive()
    }
}

// SAFETY: the pointers lead to arrays of its own, which are bound to no thread.
unsafe impl Send for ErrorQueue {}

/// Takes `bytes` for an entry of the error queue: the length of the address in a byte, the address, and the
/// control message.
///
/// # Panics
///
/// If an address is made of fewer bytes than it has.
#[doc(hidden)]
pub fn arbitrary_notice(bytes: &[u8]) {
    let mut entry = [0; 1 + size_of::<libc::sockaddr_in6>() + size_of::<ExtendedError>()];
    let len = bytes.len().min(entry.len());
    entry[..len].copy_from_slice(&bytes[..len]);
    let (name_len, rest) = entry.split_at(1);
    let (name, report) = rest.split_at(size_of::<libc::sockaddr_in6>());
    // SAFETY: as many bytes as the structures have, which are made of integers.
    let (name, report) = unsafe {
        (
            name.as_ptr().cast::<libc::sockaddr_in6>().read_unaligned(),
            report.as_ptr().cast::<ExtendedError>().read_unaligned(),
        )
    };
    let name_len = usize::from(name_len[0]);
    if let Notice::Icmp { destination: Some(to), .. } = report.notice(&name, name_len) {
        assert!(name_len >= if to.is_ipv4() { 16 } else { 28 }, "{to} in {name_len} bytes");
    }
}

fn destination(name: &libc::sockaddr_in6, len: usize) -> Option<SocketAddr> {
    match i32::from(name.sin6_family) {
        libc::AF_INET6 if len == size_of::<libc::sockaddr_in6>() => {
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        libc::AF_INET if len == size_of::<libc::sockaddr_in>() => {
            // SAFETY: that family has this structure, which is the shorter of the two.
            let name = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(name.sin_port)))
        }
        _ => None,
    }
}

/// The control message of an entry: ip(7), `IP_RECVERR`.
#[repr(C)]
struct ExtendedError {
    header: cmsghdr,
    error: sock_extended_err,
    /// Who sent the ICMP message.
    offender: libc::sockaddr_in6,
    /// Room for what other options may add.
    _rest: [u64; 8],
}

/// SO_EE_ORIGIN_ZEROCOPY and SO_EE_CODE_ZEROCOPY_COPIED of Linux's `linux/errqueue.h`.
const ORIGIN_ZEROCOPY: u8 = 5;
const CODE_COPIED: u8 = 1;
