//! Routes, as the kernel's tables and rules give them.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::ResolveError;
use super::link::Link;
use super::netlink::{Netlink, invalid};

/// A route by which frames leave this machine.
pub(super) struct Route {
    pub(super) interface: u32,
    /// Not there if the destination is on the link.
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
}

impl Route {
    pub(super) fn find(
        netlink: &mut Netlink,
        destination: IpAddr,
        named: Option<&Link>,
    ) -> Result<Self, ResolveError> {
        let mut request = RouteMessage::default();
        (request.header.address_family, request.header.destination_prefix_length) =
            match destination {
                IpAddr::V4(_) => (AddressFamily::Inet, 32),
                IpAddr::V6(_) => (AddressFamily::Inet6, 128),
            };
        request.attributes.push(RouteAttribute::Destination(destination.into()));
        request.attributes.extend(named.map(|link| RouteAttribute::Oif(link.index)));
        let no_route = |source| ResolveError::NoRoute {
            destination,
            interface: named.map(|link| link.name.clone()),
            source,
        };
        let malformed = |what| ResolveError::Netlink { request: REQUEST, source: invalid(what) };
        let reply = match netlink.ask(RouteNetlinkMessage::GetRoute(request)) {
            Ok(RouteNetlinkMessage::NewRoute(reply)) => reply,
            Ok(_) => return Err(malformed("the reply is about something else")),
            // An errno is what send(2) would say; anything else is not about the route.
            Err(source) if source.raw_os_error().is_some() => return Err(no_route(source)),
            Err(source) => return Err(ResolveError::Netlink { request: REQUEST, source }),
        };
        // For IPv4 the kernel replies with an errno instead, for IPv6 with the route that refuses:
        // the codes of fib_props[] in net/ipv4/fib_semantics.c.
        let refused = |errno: Errno| Err(no_route(errno.into()));
        match reply.header.kind {
            RouteType::Unicast | RouteType::Multicast => {}
            RouteType::Local => return Err(ResolveError::Local { destination }),
            RouteType::Broadcast => return Err(ResolveError::Broadcast { destination }),
            RouteType::Unreachable => return refused(Errno::EHOSTUNREACH),
            RouteType::Prohibit => return refused(Errno::EACCES),
            RouteType::BlackHole => return refused(Errno::EINVAL),
            other => return Err(no_route(io::Error::other(format!("route type {other:?}")))),
        }
        let route = Self::from_reply(reply);
        match named {
            _ if route.interface == 0 => Err(malformed("the route has no interface")),
            Some(link) if link.index != route.interface => refused(Errno::ENETUNREACH),
            _ => Ok(route),
        }
    }

    pub(super) fn from_reply(reply: RouteMessage) -> Self {
        let mut route = Self { interface: 0, gateway: None, source: None, mtu: None };
        for attribute in reply.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.interface = index,
                RouteAttribute::Gateway(it) => route.gateway = address(it),
                // An IPv4 route by way of an IPv6 gateway: RFC 8950.
                RouteAttribute::Via(RouteVia::Inet(it)) => route.gateway = Some(it.into()),
                RouteAttribute::Via(RouteVia::Inet6(it)) => route.gateway = Some(it.into()),
                RouteAttribute::PrefSource(it) => {
                    route.source = address(it).filter(|it| !it.is_unspecified());
                }
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.into_iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        route
    }
}

fn address(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(it) => Some(it.into()),
        RouteAddress::Inet6(it) => Some(it.into()),
        _ => None,
    }
}

const REQUEST: &str = "look up the route";
