//! Membership in multicast groups.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use socket2::{InterfaceIndexOrAddress, SockRef};

use crate::backend::interface::Interface;

/// Joins a group on an interface, or on the one of the route, for as long as the socket is open.
pub(crate) fn join(
    socket: &impl AsFd,
    group: IpAddr,
    interface: Option<&Interface>,
) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let index = interface.map_or(0, |interface| interface.index);
    match group {
        IpAddr::V4(group) => {
            let interface = match index {
                0 => InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED),
                index => InterfaceIndexOrAddress::Index(index),
            };
            socket.join_multicast_v4_n(&group, &interface)
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
    }
}
