//! Socket options that the crates in use lack.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

/// Sets a socket option.
pub(in crate::backend) fn set_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    set(socket, level, name, &value)
}

/// Reads a socket option.
pub(in crate::backend) fn option(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` has the length that `len` says.
    let result = unsafe {
        let value: *mut c_void = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, value, &mut len)
    };
    Ok(Errno::result(result).map(|_| value)?)
}

/// Chooses the interface that IPv4 multicast leaves through, by its index: ip(7).
pub(in crate::backend) fn set_multicast_interface(
    socket: BorrowedFd<'_>,
    index: u32,
) -> io::Result<()> {
    let any = libc::in_addr { s_addr: libc::INADDR_ANY };
    let request =
        libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index as c_int };
    set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

fn set<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let start = ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `len` bytes of `value`, which is as long.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, start, len) };
    Ok(Errno::result(result).map(drop)?)
}

/// Bytes that a TCP socket was given and that its peer has not acknowledged: tcp(7), `SIOCOUTQ`.
pub(in crate::backend) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes an `int`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    Ok(Errno::result(result).map(|_| bytes.max(0) as u64)?)
}

/// Ends a connection at once: what the kernel has not sent, it throws away. The socket stays.
pub(in crate::backend) fn abort_connection(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a structure of integers.
    let mut nowhere: libc::sockaddr = unsafe { mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as _;
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `nowhere`, which is as long.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, len) };
    Ok(Errno::result(result).map(drop)?)
}

/// The MTU of an interface, from netdevice(7): unlike sysfs, it knows the caller's namespace.
pub(in crate::backend) fn interface_mtu(name: &str) -> io::Result<u32> {
    // SAFETY: a structure of integers, and a union of such and pointers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays 0 and ends the name.
    for (to, &from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.as_bytes()) {
        *to = from as _;
    }
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: SIOCGIFMTU reads the name and writes the MTU of a `struct ifreq`.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    Errno::result(result)?;
    // SAFETY: the call has succeeded, and so written this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}
