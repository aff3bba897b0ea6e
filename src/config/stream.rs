//! Where the stream goes and what its packets look like.

use std::net::IpAddr;

use super::keys::{CNT_START, CNT_STEP, MTU, PACKET_SIZE, SOURCE_PORT, TO, TTL, VLAN};
use super::resolve::at_least_1;
use super::{ConfigError, Endpoint, Host, PacketSize, Span, StreamOptions};
use crate::plan::{self, MAX_PACKET_SIZE, Order};
use crate::wire::{Flavour, MIN_PACKET_SIZE, MacAddress, Vlan};

/// Where the stream goes and what its packets look like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// Destinations as they were written, all of one address family as far as they are addresses.
    /// None at all: the stream goes to its own receiver on loopback.
    pub to: Vec<Endpoint>,
    /// The longest packet, at least 56 bytes; [`StreamConfig::packet_size_within`] an MTU makes it
    /// what a plan takes.
    pub packet_size: PacketSize,
    /// The MTU to reckon with, in bytes of IP; `None` is the interface's.
    pub mtu: Option<u32>,
    /// The SPEAD flavour.
    pub flavour: Flavour,
    /// Whether every packet of a heap carries all its item pointers.
    pub repeat_pointers: bool,
    /// In which order the packets of a batch go.
    pub group: Order,
    /// Heap cnt of the first heap.
    pub cnt_start: u64,
    /// Heap cnts from one heap to the next, at least 1.
    pub cnt_step: u64,
    /// Time to live if it was given; [`StreamConfig::ttl_to`] knows the default.
    pub ttl: Option<u8>,
    /// VLAN tag of the frames; `None` is untagged.
    pub vlan: Option<Vlan>,
    /// Destination MAC address; `None` is found from the group or the neighbour.
    pub dst_mac: Option<MacAddress>,
    /// UDP source port, never 0; `None` is any free one.
    pub source_port: Option<u16>,
    /// For how long to send what says nothing before the stream begins.
    pub warm_up: Option<Span>,
}

impl StreamConfig {
    /// The destinations one by one, in the order of their substreams.
    pub fn destinations(&self) -> impl Iterator<Item = Endpoint> {
        self.to.iter().flat_map(Endpoint::expand)
    }

    /// The time to live of packets to `address`: the given one, else 1 for multicast and 64 for
    /// unicast, which are Linux's defaults (`ip(7)`).
    pub fn ttl_to(&self, address: IpAddr) -> u8 {
        self.ttl.unwrap_or(if address.is_multicast() { MULTICAST_TTL } else { UNICAST_TTL })
    }
}

pub(super) fn stream(options: StreamOptions, is_tcp: bool) -> Result<StreamConfig, ConfigError> {
    let stream = StreamConfig {
        to: options.to.unwrap_or_default(),
        packet_size: options.packet_size.unwrap_or_default(),
        mtu: options.mtu,
        flavour: options.flavour.unwrap_or_default(),
        repeat_pointers: options.repeat_pointers.unwrap_or_default(),
        group: options.group.unwrap_or_default(),
        cnt_start: options.cnt_start.unwrap_or(1),
        cnt_step: options.cnt_step.unwrap_or(1),
        ttl: options.ttl,
        vlan: options.vlan.map(vlan).transpose()?,
        dst_mac: options.dst_mac,
        source_port: options.source_port,
        warm_up: options.warm_up,
    };
    one_family(&stream.to)?;
    if let PacketSize::AtMost(bytes) = stream.packet_size
        && (bytes as usize) < MIN_PACKET_SIZE
    {
        let hint = format!(
            "the smallest SPEAD packet is {MIN_PACKET_SIZE} bytes; give that or more, or auto"
        );
        return Err(ConfigError::unusable(PACKET_SIZE, bytes, hint));
    }
    if is_tcp {
        if let PacketSize::AtMost(bytes) = stream.packet_size
            && bytes as usize > MAX_PACKET_SIZE
        {
            let hint =
                format!("plans end at packets of {MAX_PACKET_SIZE} bytes; give that or less");
            return Err(ConfigError::unusable(PACKET_SIZE, bytes, hint));
        }
    } else {
        let ipv6 = stream.to.iter().any(|endpoint| matches!(endpoint.host(), Host::V6(..)));
        stream.packet_size_within(stream.mtu.unwrap_or(u32::MAX), ipv6)?;
    }
    for (key, cnt) in [(CNT_START, stream.cnt_start), (CNT_STEP, stream.cnt_step)] {
        let max = stream.flavour.max_value();
        if cnt > max {
            let hint = format!("heap cnts of flavour {} end at {max}", stream.flavour);
            return Err(ConfigError::unusable(key, cnt, hint));
        }
    }
    at_least_1(CNT_STEP, stream.cnt_step)?;
    let unicast =
        |endpoint: &&Endpoint| endpoint.host().address().is_some_and(|ip| !ip.is_multicast());
    if let (Some(0), Some(endpoint)) = (stream.ttl, stream.to.iter().find(unicast)) {
        let hint = format!("packets to {endpoint} need 1 or more; 0 keeps multicast on this host");
        return Err(ConfigError::unusable(TTL, 0, hint));
    }
    if stream.source_port == Some(0) {
        let hint = "give a port from 1 to 65535, or leave it out for any free one";
        return Err(ConfigError::unusable(SOURCE_PORT, 0, hint));
    }
    Ok(stream)
}

fn vlan(id: u16) -> Result<Vlan, ConfigError> {
    Vlan::new(id, 0).map_err(|_| {
        let hint = "VLAN ids are 1 to 4094 (IEEE 802.1Q); leave it out for untagged frames";
        ConfigError::unusable(VLAN, id, hint)
    })
}

/// Host names join either family when they are resolved.
fn one_family(to: &[Endpoint]) -> Result<(), ConfigError> {
    let v4 = to.iter().find(|endpoint| matches!(endpoint.host(), Host::V4(_)));
    let v6 = to.iter().find(|endpoint| matches!(endpoint.host(), Host::V6(..)));
    let (Some(v4), Some(v6)) = (v4, v6) else { return Ok(()) };
    let hint = format!("destinations must all be of one family: {v4} is IPv4, {v6} is IPv6");
    Err(ConfigError::unusable(TO, format_args!("{v4}, {v6}"), hint))
}

impl StreamConfig {
    /// The packet size as a plan takes it, for packets within an MTU of `mtu` bytes of IP.
    /// [`Config::from_options`](super::Config::from_options) has tried the configured MTU; the interface's is for the caller.
    ///
    /// # Errors
    /// The packet size if it is too large, or the MTU if no SPEAD packet fits it.
    pub fn packet_size_within(
        &self,
        mtu: u32,
        ipv6: bool,
    ) -> Result<plan::PacketSize, ConfigError> {
        let (family, headers, longest) = match ipv6 {
            true => ("IPv6", IPV6_HEADERS, IPV6_LONGEST),
            false => ("IPv4", IPV4_HEADERS, IPV4_LONGEST),
        };
        let most = mtu.saturating_sub(headers).min(longest);
        if (most as usize) < MIN_PACKET_SIZE {
            let least = headers as usize + MIN_PACKET_SIZE;
            let hint =
                format!("the smallest SPEAD packet over {family} and UDP takes {least} bytes");
            return Err(ConfigError::unusable(MTU, mtu, hint));
        }
        match self.packet_size {
            PacketSize::AtMost(bytes) if bytes > most => {
                let limit = match mtu.checked_sub(headers) {
                    Some(room) if room <= longest => format!("an MTU of {mtu}"),
                    _ => "a datagram".to_owned(),
                };
                let hint = format!(
                    "{limit} carries at most {most} bytes over {family} and UDP; give {most} or less, or auto"
                );
                Err(ConfigError::unusable(PACKET_SIZE, bytes, hint))
            }
            PacketSize::AtMost(bytes) => Ok(plan::PacketSize::Exact(bytes as usize)),
            PacketSize::Auto => Ok(plan::PacketSize::Uniform { limit: most as usize }),
        }
    }

    /// Likewise for datagrams from a port whose MTU, in bytes of message, is `mtu`; and the largest
    /// packet that this leaves.
    ///
    /// # Errors
    /// The packet size or the MTU if the port's does not carry it.
    pub fn message_size_within(&self, mtu: u32) -> Result<(plan::PacketSize, u32), ConfigError> {
        let most = self.mtu.unwrap_or(mtu);
        if most > mtu || (most as usize) < MIN_PACKET_SIZE {
            let hint = format!("give {MIN_PACKET_SIZE} to {mtu}, which is the RDMA port's");
            return Err(ConfigError::unusable(MTU, most, hint));
        }
        match self.packet_size {
            PacketSize::AtMost(bytes) if bytes > most => {
                let hint = format!(
                    "a datagram carries at most {most} bytes here; give {most} or less, or auto"
                );
                Err(ConfigError::unusable(PACKET_SIZE, bytes, hint))
            }
            PacketSize::AtMost(bytes) => Ok((plan::PacketSize::Exact(bytes as usize), most)),
            PacketSize::Auto => Ok((plan::PacketSize::Uniform { limit: most as usize }, most)),
        }
    }
}

impl StreamConfig {
    /// The packet size as a plan takes it, for packets in a stream of bytes: no MTU bounds it.
    pub fn packet_size_in_stream(&self) -> plan::PacketSize {
        match self.packet_size {
            PacketSize::AtMost(bytes) => plan::PacketSize::Exact(bytes as usize),
            PacketSize::Auto => plan::PacketSize::Uniform { limit: STREAM_PACKET },
        }
    }
}

/// What the kernel gives multicast unless told otherwise: packets stay on the local network.
const MULTICAST_TTL: u8 = 1;

/// What the kernel gives unicast unless told otherwise (`net.ipv4.ip_default_ttl`).
const UNICAST_TTL: u8 = 64;

/// Less than the 65,536 bytes that spead2's TCP receivers take unless told otherwise (`max_size`), and
/// no more than a plan has.
const STREAM_PACKET: usize = 65_520;

/// IP header without options, and UDP header.
const IPV4_HEADERS: u32 = 20 + 8;
const IPV6_HEADERS: u32 = 40 + 8;

/// The longest UDP payload that the 16-bit length fields of IPv4 (RFC 791) and of UDP (RFC 768) allow.
const IPV4_LONGEST: u32 = 65_535 - IPV4_HEADERS;
const IPV6_LONGEST: u32 = 65_535 - 8;
