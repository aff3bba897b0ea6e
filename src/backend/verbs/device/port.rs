//! Ports of RDMA devices.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ibverbs_dl as sys;

use super::super::context::Context;
use super::super::error::zero;
use crate::backend::interface::Interface;
use crate::wire::MacAddress;

/// A port of an RDMA device.
#[derive(Clone, Debug, PartialEq)]
pub struct RdmaPort {
    /// Its number, from 1.
    pub number: u8,
    /// Whether its link is up.
    pub state: PortState,
    /// What its link is.
    pub link_layer: LinkLayer,
    /// Bytes of payload that a packet of RDMA carries, 256 to 4096; 0 if the device names no such
    /// number. Raw packets have the MTU of the network interface.
    pub mtu: u32,
    /// Speed of the link, in Gb/s, if the device names one that is known here.
    pub speed_gbps: Option<f64>,
    /// Its addresses, without repetition: on Ethernet, those of its network interfaces.
    pub gids: Vec<Ipv6Addr>,
    /// Names of its network interfaces.
    pub interfaces: Vec<String>,
}

/// Whether a port's link is up (`ibv_query_port(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// No link.
    Down,
    /// A link, that is not configured.
    Init,
    /// Configured, and not in use.
    Armed,
    /// Up.
    Active,
    /// Another state, by its number.
    Other(u32),
}

/// What a port's link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// Ethernet, over which raw packets go.
    Ethernet,
    /// InfiniBand, over which they do not.
    InfiniBand,
    /// Another one, or not told.
    Other,
}

impl RdmaPort {
    /// What a device says of a port; nothing of one that it does not have.
    pub(super) fn query(context: &Context, number: u8) -> Option<Self> {
        let mut attr = sys::ibv_port_attr::default();
        // SAFETY: the context is open, and `attr` is valid for the call.
        zero(unsafe { sys::ibv_query_port(context.as_ptr(), number, &mut attr) })
            .inspect_err(|error| tracing::debug!(number, %error, "ibv_query_port"))
            .ok()?;
        let mut gids = Vec::new();
        for index in 0..attr.gid_tbl_len.clamp(0, MAX_GIDS) {
            // Each address is there for every version of RoCE, and unused entries are zero.
            match query_gid(context, number, index) {
                Some(gid) if !gid.is_unspecified() && !gids.contains(&gid) => gids.push(gid),
                _ => {}
            }
        }
        Some(Self {
            number,
            state: attr.state.into(),
            link_layer: LinkLayer::of(attr.link_layer),
            mtu: mtu(attr.active_mtu),
            speed_gbps: speed(attr.active_width, attr.active_speed),
            gids,
            interfaces: Vec::new(),
        })
    }

    /// Whether frames sent from it arrive anywhere.
    pub fn can_send(&self) -> bool {
        self.state == PortState::Active && self.link_layer == LinkLayer::Ethernet
    }

    /// Whether it is the other face of an interface.
    pub fn serves(&self, interface: &Interface) -> bool {
        self.interfaces.contains(&interface.name)
    }

    /// Whether its GIDs hold an address of an interface, or the link-local one of its MAC address:
    /// that is how RoCE fills them (InfiniBand Architecture 1.4, annex A17.4).
    pub(super) fn has_address_of(&self, interface: &Interface, mac: Option<MacAddress>) -> bool {
        let addresses = interface.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => *address,
        });
        // That of loopback is nobody's.
        let mac = mac.filter(|mac| mac.0 != [0; 6]);
        addresses.chain(mac.map(link_local)).any(|address| self.gids.contains(&address))
    }
}

/// The bytes that a code of an MTU stands for (`enum ibv_mtu`); 0 if it is none.
pub(in super::super) fn mtu(code: sys::ibv_mtu) -> u32 {
    match code {
        code @ sys::IBV_MTU_256..=sys::IBV_MTU_4096 => 128 << code,
        _ => 0,
    }
}

fn query_gid(context: &Context, port: u8, index: i32) -> Option<Ipv6Addr> {
    let mut gid = sys::ibv_gid::default();
    // SAFETY: the context is open, and `gid` is valid for the call.
    zero(unsafe { sys::ibv_query_gid(context.as_ptr(), port, index, &mut gid) }).ok()?;
    // SAFETY: all views of a GID are of plain bytes.
    Some(Ipv6Addr::from(unsafe { gid.raw }))
}

/// The link-local address that a MAC address makes: RFC 4291, appendix A.
fn link_local(MacAddress([a, b, c, d, e, f]): MacAddress) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Lanes, times what each carries: codes of the PortInfo attribute (InfiniBand Architecture,
/// 14.2.5.6).
fn speed(width: u8, speed: u8) -> Option<f64> {
    let lanes = match width {
        1 => 1.0,
        2 => 4.0,
        4 => 8.0,
        8 => 12.0,
        16 => 2.0,
        _ => return None,
    };
    let lane = match speed {
        1 => 2.5,
        2 => 5.0,
        4 | 8 => 10.0,
        16 => 14.0,
        32 => 25.0,
        64 => 50.0,
        128 => 100.0,
        _ => return None,
    };
    Some(lanes * lane)
}

impl LinkLayer {
    /// What a code of `ibv_query_port(3)` stands for.
    pub(in super::super) fn of(code: u8) -> Self {
        match u32::from(code) {
            sys::IBV_LINK_LAYER_ETHERNET => Self::Ethernet,
            sys::IBV_LINK_LAYER_INFINIBAND => Self::InfiniBand,
            _ => Self::Other,
        }
    }
}

impl From<u32> for PortState {
    fn from(state: u32) -> Self {
        match state {
            sys::ibv_port_state::IBV_PORT_DOWN => Self::Down,
            sys::ibv_port_state::IBV_PORT_INIT => Self::Init,
            sys::ibv_port_state::IBV_PORT_ARMED => Self::Armed,
            sys::ibv_port_state::IBV_PORT_ACTIVE => Self::Active,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("down"),
            Self::Init => f.write_str("initialising"),
            Self::Armed => f.write_str("armed"),
            Self::Active => f.write_str("active"),
            Self::Other(state) => write!(f, "in state {state}"),
        }
    }
}

impl fmt::Display for LinkLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet",
            Self::InfiniBand => "InfiniBand",
            Self::Other => "unknown link layer",
        })
    }
}

/// More than any device has; a bound on what one may claim.
const MAX_GIDS: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(gids: &[&str]) -> RdmaPort {
        RdmaPort {
            number: 1,
            state: PortState::Active,
            link_layer: LinkLayer::Ethernet,
            mtu: 4096,
            speed_gbps: None,
            gids: gids.iter().map(|gid| gid.parse().unwrap()).collect(),
            interfaces: Vec::new(),
        }
    }

    #[test]
    fn a_port_is_tied_to_the_interface_whose_addresses_are_its_gids() {
        let mac: MacAddress = "02:fc:00:00:00:01".parse().unwrap();
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            addresses: vec!["10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            found_by: None,
            mtu: 1500,
        };
        for (gid, tied) in [
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("fe80::fc:ff:fe00:1", true),
            ("::ffff:10.1.2.4", false),
            ("fe80::fc:ff:fe00:2", false),
        ] {
            let port = port(&["fe80::1:1", gid]);
            assert_eq!(port.has_address_of(&interface, Some(mac)), tied, "{gid}");
        }
        assert!(!port(&["fe80::fc:ff:fe00:1"]).has_address_of(&interface, None));
        // Tunnels and loopback have a MAC address of zeros.
        let zeros = Some(MacAddress([0; 6]));
        assert!(!port(&["fe80::200:ff:fe00:0"]).has_address_of(&interface, zeros));
    }

    #[test]
    fn speeds_are_those_on_the_label() {
        // Of `ibstatus`: 4X EDR, 4X HDR, 1X EDR (25 GbE), 4X QDR (40 GbE), 2X HDR (100 GbE).
        let known = [(2, 32), (2, 64), (1, 32), (2, 4), (16, 64)].map(|(w, s)| speed(w, s));
        assert_eq!(known, [100.0, 200.0, 25.0, 40.0, 100.0].map(Some));
        assert_eq!([speed(0, 32), speed(2, 0), speed(255, 255)], [None; 3]);
    }

    #[test]
    fn frames_go_over_ethernet_that_is_up() {
        let up = port(&[]);
        assert!(up.can_send());
        assert!(!RdmaPort { state: PortState::from(1), ..up.clone() }.can_send());
        assert!(!RdmaPort { link_layer: LinkLayer::InfiniBand, ..up }.can_send());
        assert_eq!(PortState::from(77).to_string(), "in state 77");
    }
}
