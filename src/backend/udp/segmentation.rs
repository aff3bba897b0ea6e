//! How many packets the kernel cuts out of one message: UDP_MAX_SEGMENTS of Linux's
//! `include/linux/udp.h`, which it does not tell.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

use crate::backend::interface::Interface;

/// Packets that the kernel takes in one message: a socket sends itself messages over loopback.
pub fn max_segments() -> u32 {
    let found = || -> io::Result<Result<u32, Errno>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        Ok(probe(&socket, &[], None))
    };
    found().and_then(|found| Ok(found?)).unwrap_or_else(|error| {
        tracing::debug!("cannot probe segmentation offload on loopback: {error}");
        USUAL_SEGMENTS
    })
}

/// Packets that the kernel takes in one message through an interface, 1 if it cuts none there; `None` if
/// it cannot be asked, as when the interface is down.
///
/// Packets of one byte get no further than the interface: they are for all hosts of the link, of which
/// this is one, with a time to live of 0, which must not leave the host (`ip_mc_output()` in Linux's
/// `net/ipv4/ip_output.c`).
pub fn max_segments_through(interface: &Interface) -> Option<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_multicast_ttl_v4(0).ok()?;
    socket.set_multicast_loop_v4(false).ok()?;
    let any = libc::in_addr { s_addr: 0 };
    let through =
        libc::in_pktinfo { ipi_ifindex: interface.index as i32, ipi_spec_dst: any, ipi_addr: any };
    let to = SockaddrIn::new(224, 0, 0, 1, DISCARD);
    probe(&socket, &[ControlMessage::Ipv4PacketInfo(&through)], Some(&to)).ok()
}

/// Sends messages of this many packets, each of one byte.
fn probe(
    socket: &UdpSocket,
    control: &[ControlMessage<'_>],
    to: Option<&SockaddrIn>,
) -> Result<u32, Errno> {
    for segments in [MAX_SEGMENTS, USUAL_SEGMENTS] {
        let bytes = [IoSlice::new(&[0; MAX_SEGMENTS as usize][..segments as usize])];
        let mut control = control.to_vec();
        control.push(ControlMessage::UdpGsoSegments(&1));
        match sendmsg(socket.as_raw_fd(), &bytes, &control, MsgFlags::MSG_DONTWAIT, to) {
            Ok(_) => return Ok(segments),
            Err(Errno::EINVAL | Errno::EIO | Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(1)
}

/// Since Linux 6.10, and what the arrays are made for.
const MAX_SEGMENTS: u32 = 128;
/// Since Linux 4.18, where segmentation offload began.
const USUAL_SEGMENTS: u32 = 64;
/// RFC 863
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_segments_and_no_interface_does_not() {
        let loopback = Interface::find("lo").unwrap();
        assert_eq!(max_segments_through(&loopback), Some(max_segments()));
        assert!([64, 128].contains(&max_segments()));
        let none = Interface { index: i32::MAX as u32, ..loopback };
        assert_eq!(max_segments_through(&none), None);
    }
}
