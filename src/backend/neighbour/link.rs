//! Interfaces, as far as frames are concerned.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkLayerType, LinkMessage,
};
use nix::errno::Errno;

use super::netlink::{Netlink, invalid};
use super::{MacAddress, ResolveError};

/// An Ethernet interface that is up.
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: MacAddress,
    pub(super) mtu: u32,
}

impl Link {
    pub(super) fn find(netlink: &mut Netlink, index: u32) -> Result<Self, ResolveError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let error = |source| ResolveError::Netlink { request: REQUEST, source };
        match netlink.ask(RouteNetlinkMessage::GetLink(request)) {
            Ok(RouteNetlinkMessage::NewLink(reply)) => Self::from_reply(reply),
            Ok(_) => Err(error(invalid("the reply is about something else"))),
            // The latter for numbers that no interface can have.
            Err(source) => match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENODEV | Errno::EINVAL) => Err(ResolveError::NoInterface { index }),
                _ => Err(error(source)),
            },
        }
    }

    pub(super) fn from_reply(
        LinkMessage { header, attributes, .. }: LinkMessage,
    ) -> Result<Self, ResolveError> {
        let (mut name, mut mac, mut mtu) = (None, None, None);
        for attribute in attributes {
            match attribute {
                LinkAttribute::IfName(it) => name = Some(it),
                LinkAttribute::Address(it) => mac = it.try_into().ok().map(MacAddress),
                LinkAttribute::Mtu(it) => mtu = Some(it),
                _ => {}
            }
        }
        let missing = |what| ResolveError::Netlink {
            request: REQUEST,
            source: invalid(format!("interface {} has no {what}", header.index)),
        };
        let interface = name.ok_or_else(|| missing("name"))?;
        // A loopback has a hardware address, all zeros; a tunnel's is shorter, or an IP address.
        if header.link_layer_type != LinkLayerType::Ether {
            let link_layer = header.link_layer_type.to_string();
            return Err(ResolveError::NotEthernet { interface, link_layer });
        }
        if !header.flags.contains(LinkFlags::Up) {
            return Err(ResolveError::Down { interface });
        }
        Ok(Self {
            index: header.index,
            name: interface,
            mac: mac.ok_or_else(|| missing("hardware address of 6 bytes"))?,
            mtu: mtu.ok_or_else(|| missing("MTU"))?,
        })
    }
}

const REQUEST: &str = "look up the interface";
