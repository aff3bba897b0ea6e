//! Many pieces of memory in one call.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::region::MappedBytes;

/// sendmsg(2) of pieces to where the socket is connected. Returns how many bytes were taken.
pub(in crate::backend) fn send_pieces(
    socket: BorrowedFd<'_>,
    pieces: &[MappedBytes<'_>],
    flags: i32,
) -> io::Result<usize> {
    // SAFETY: a structure of integers and pointers.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: a piece is laid out as an iovec, and can be read; the kernel writes neither. It minds no
    // change meanwhile, and answers EFAULT for what is gone.
    let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    Ok(Errno::result(result).map(|taken| taken as usize)?)
}
