//! Where sockets send to, and from where.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::backend::OpenError;
use crate::backend::interface::{Interface, is_link_local};

/// What is asked for, once it is known that it can be.
pub(in crate::backend) fn destinations(
    asked: &[SocketAddr],
    interface: Option<&Interface>,
) -> Result<Vec<SocketAddr>, OpenError> {
    let error = |device: &dyn ToString, source: String| {
        Err(OpenError::new("find the destinations", device.to_string(), source))
    };
    let Some(first) = asked.first() else {
        return error(&"none given", "at least one HOST:PORT is needed".into());
    };
    let index = interface.map_or(0, |interface| interface.index);
    let mut destinations = Vec::with_capacity(asked.len());
    for destination in asked {
        if destination.port() == 0 {
            return error(destination, "port 0 cannot be sent to: name one from 1 to 65535".into());
        }
        destinations.push(match (destination.ip().to_canonical(), destination) {
            // Such an address has a meaning only together with an interface.
            (IpAddr::V6(ip), SocketAddr::V6(v6)) if is_link_local(ip.into()) => {
                let scope = if v6.scope_id() == 0 { index } else { v6.scope_id() };
                SocketAddrV6::new(ip, v6.port(), v6.flowinfo(), scope).into()
            }
            (IpAddr::V6(_), _) => *destination,
            // IPv4, perhaps in the guise of IPv6: RFC 4291, 2.5.5.2.
            (ip, _) => SocketAddr::new(ip, destination.port()),
        });
    }
    let is_ipv4 = destinations[0].is_ipv4();
    match destinations.iter().position(|it| it.is_ipv4() != is_ipv4) {
        Some(other) => error(
            &format!("{first}, {}", asked[other]),
            "IPv4 and IPv6 do not mix: all destinations must be of one family".into(),
        ),
        None => Ok(destinations),
    }
}

/// Where packets come from that leave through an interface; `None` leaves that to the kernel.
pub(in crate::backend) fn source_address(
    interface: &Interface,
    port: u16,
    destinations: &[SocketAddr],
) -> Result<Option<SocketAddr>, OpenError> {
    let unicast = destinations.iter().find(|destination| !destination.ip().is_multicast());
    match interface.source_address(unicast.unwrap_or(&destinations[0]).ip()) {
        Some(IpAddr::V6(ip)) if is_link_local(ip.into()) => {
            Ok(Some(SocketAddrV6::new(ip, port, 0, interface.index).into()))
        }
        Some(ip) => Ok(Some(SocketAddr::new(ip, port))),
        // Multicast finds its way without.
        None if unicast.is_none() => Ok(None),
        None => {
            let family = if destinations[0].is_ipv4() { "IPv4" } else { "IPv6" };
            let source = format!("it has no {family} address to send from");
            Err(OpenError::new("choose the interface", interface, source))
        }
    }
}
