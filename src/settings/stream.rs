//! Where the stream goes and what its packets look like.

use super::keys::{
    CNT_START, CNT_STEP, DST_MAC, FLAVOUR, MTU, PACKET_SIZE, SOURCE_PORT, TO, TTL, VLAN,
};
use super::{Endpoint, Host, Key, PacketLimit, Row, Section, Settings, SettingsError, Span};
use crate::plan::{self, MAX_PACKET_SIZE, Order};
use crate::wire::{
    EtherType, Flavour, MIN_PACKET_SIZE, MacAddress, Vlan, ip_udp_header_len, max_payload_len,
};

pub(super) const SECTION: Section<Settings> = Section {
    name: "stream",
    title: "Stream",
    settings: &[
        Row::list(
            TO,
            "to",
            "HOST:PORT",
            "Send to HOST:PORT, one substream each; 239.1.0.0+3:7148 is four addresses; may be repeated",
            "a verifying receiver on loopback",
            |it| &mut it.stream.to,
        ),
        Row::one(
            PACKET_SIZE,
            "packet_size",
            "auto|BYTES",
            "Longest packet in bytes of SPEAD, without network headers",
            "auto, equal packets within the MTU; over TCP, within 64KiB",
            |it| &mut it.stream.packet_size,
        )
        .dashes(),
        Row::optional(MTU, "mtu", "BYTES", "MTU of the path", "the interface's", |it| {
            &mut it.stream.mtu
        })
        .number(u32::MAX as u64),
        Row::one(
            FLAVOUR,
            "flavour",
            "64-N",
            "SPEAD flavour: 64 bits, of which N are the address",
            "64-40",
            |it| &mut it.stream.flavour,
        ),
        Row::one(
            Key::new("stream.repeat_pointers"),
            "repeat_pointers",
            "BOOL",
            "Repeat all item pointers in every packet of a heap",
            "false",
            |it| &mut it.stream.repeat_pointers,
        )
        .switch(),
        Row::one(
            Key::new("stream.group"),
            "group",
            "serial|round-robin",
            "Order of the packets of a batch: heap after heap, destination by destination, or one of each \
             heap in turn",
            "serial",
            |it| &mut it.stream.group,
        )
        .choice(),
        Row::one(CNT_START, "cnt_start", "N", "Heap cnt of the first heap", "1", |it| {
            &mut it.stream.cnt_start
        })
        .number(u64::MAX),
        Row::one(
            CNT_STEP,
            "cnt_step",
            "N",
            "Heap cnts from one heap to the next; senders that share a stream stride",
            "1",
            |it| &mut it.stream.cnt_step,
        )
        .number(u64::MAX),
        Row::optional(
            TTL,
            "ttl",
            "HOPS",
            "Time to live, or IPv6 hop limit; 0 keeps multicast on this host",
            "1 multicast, 64 unicast",
            |it| &mut it.stream.ttl,
        )
        .number(u8::MAX as u64),
        Row::optional(
            VLAN,
            "vlan",
            "1..4094",
            "VLAN id of the frames, for backends that build frames",
            "untagged",
            |it| &mut it.stream.vlan,
        )
        .number(u16::MAX as u64),
        Row::optional(
            DST_MAC,
            "dst_mac",
            "MAC",
            "Destination MAC address, for backends that build frames",
            "from the group or neighbour",
            |it| &mut it.stream.dst_mac,
        ),
        Row::optional(
            SOURCE_PORT,
            "source_port",
            "PORT",
            "UDP or TCP source port",
            "any free one",
            |it| &mut it.stream.source_port,
        )
        .number(u16::MAX as u64),
        Row::optional(
            Key::new("stream.warm_up"),
            "warm_up",
            "TIME",
            "Send heaps that say nothing, ten a second, for so long before the stream begins, for networks \
             that learn slowly where packets go",
            "none",
            |it| &mut it.stream.warm_up,
        )
        .dashes(),
    ],
};

/// Where the stream goes and what its packets look like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamSettings {
    /// Destinations as they were written, all of one address family as far as they are addresses.
    pub to: Vec<Endpoint>,
    /// The longest packet, at least 56 bytes.
    pub packet_size: PacketLimit,
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
    /// Time to live; `None` is 1 for multicast, 64 for unicast. 0, which is for multicast over UDP alone, keeps
    /// packets on this host.
    pub ttl: Option<u8>,
    /// VLAN id of the frames, 1 to 4094; `None` is untagged.
    pub vlan: Option<u16>,
    /// Destination MAC address; `None` is found from the group or the neighbour.
    pub dst_mac: Option<MacAddress>,
    /// UDP or TCP source port, never 0; `None` is any free one.
    pub source_port: Option<u16>,
    /// For how long to send heaps that say nothing before the stream begins.
    pub warm_up: Option<Span>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            packet_size: PacketLimit::Auto,
            mtu: None,
            flavour: Flavour::default(),
            repeat_pointers: false,
            group: Order::default(),
            cnt_start: 1,
            cnt_step: 1,
            ttl: None,
            vlan: None,
            dst_mac: None,
            source_port: None,
            warm_up: None,
        }
    }
}

impl StreamSettings {
    /// The destinations one by one, in the order of their substreams.
    pub fn destinations(&self) -> impl Iterator<Item = Endpoint> {
        self.to.iter().flat_map(Endpoint::expand)
    }

    /// The tag of the frames.
    pub(crate) fn vlan_tag(&self) -> Option<Vlan> {
        self.vlan.and_then(|id| Vlan::new(id, 0).ok())
    }

    pub(super) fn check(&self, is_tcp: bool) -> Result<(), SettingsError> {
        one_family(&self.to)?;
        if let PacketLimit::AtMost(bytes) = self.packet_size
            && (bytes as usize) < MIN_PACKET_SIZE
        {
            let hint = format!(
                "the smallest SPEAD packet is {MIN_PACKET_SIZE} bytes; give that or more, or auto"
            );
            return Err(SettingsError::unusable(PACKET_SIZE, bytes, hint));
        }
        if is_tcp {
            if let PacketLimit::AtMost(bytes) = self.packet_size
                && bytes as usize > MAX_PACKET_SIZE
            {
                let hint =
                    format!("plans end at packets of {MAX_PACKET_SIZE} bytes; give that or less");
                return Err(SettingsError::unusable(PACKET_SIZE, bytes, hint));
            }
        } else {
            let ipv6 = self.to.iter().any(|endpoint| matches!(endpoint.host(), Host::V6(..)));
            self.packet_size_within(self.mtu.unwrap_or(u32::MAX), ipv6)?;
        }
        for (key, cnt) in [(CNT_START, self.cnt_start), (CNT_STEP, self.cnt_step)] {
            let max = self.flavour.max_value();
            if cnt > max {
                let hint = format!("heap cnts of flavour {} end at {max}", self.flavour);
                return Err(SettingsError::unusable(key, cnt, hint));
            }
        }
        at_least_1(CNT_STEP, self.cnt_step)?;
        let unicast =
            |endpoint: &&Endpoint| endpoint.host().address().is_some_and(|ip| !ip.is_multicast());
        if let (Some(0), Some(endpoint)) = (self.ttl, self.to.iter().find(unicast)) {
            let hint =
                format!("packets to {endpoint} need 1 or more; 0 keeps multicast on this host");
            return Err(SettingsError::unusable(TTL, 0, hint));
        }
        if let Some(id) = self.vlan.filter(|_| self.vlan_tag().is_none()) {
            let hint = "VLAN ids are 1 to 4094 (IEEE 802.1Q); leave it out for untagged frames";
            return Err(SettingsError::unusable(VLAN, id, hint));
        }
        if self.source_port == Some(0) {
            let hint = "give a port from 1 to 65535, or leave it out for any free one";
            return Err(SettingsError::unusable(SOURCE_PORT, 0, hint));
        }
        Ok(())
    }

    /// The packet size as a plan takes it, for packets within an MTU of `mtu` bytes of IP.
    /// [`Settings::check`] has tried the configured MTU; the interface's is for the caller.
    ///
    /// # Errors
    ///
    /// The packet size if it is too large, or the MTU if no SPEAD packet fits it.
    pub(crate) fn packet_size_within(
        &self,
        mtu: u32,
        ipv6: bool,
    ) -> Result<plan::PacketSize, SettingsError> {
        let (family, ethertype) = match ipv6 {
            true => ("IPv6", EtherType::Ipv6),
            false => ("IPv4", EtherType::Ipv4),
        };
        let headers = ip_udp_header_len(ethertype) as u32;
        let longest = max_payload_len(ethertype) as u32;
        let most = mtu.saturating_sub(headers).min(longest);
        if (most as usize) < MIN_PACKET_SIZE {
            let least = headers as usize + MIN_PACKET_SIZE;
            let hint =
                format!("the smallest SPEAD packet over {family} and UDP takes {least} bytes");
            return Err(SettingsError::unusable(MTU, mtu, hint));
        }
        match self.packet_size {
            PacketLimit::AtMost(bytes) if bytes > most => {
                let limit = match mtu.checked_sub(headers) {
                    Some(room) if room <= longest => format!("an MTU of {mtu}"),
                    _ => "a datagram".to_owned(),
                };
                let hint = format!(
                    "{limit} carries at most {most} bytes over {family} and UDP; give {most} or less, or auto"
                );
                Err(SettingsError::unusable(PACKET_SIZE, bytes, hint))
            }
            PacketLimit::AtMost(bytes) => Ok(plan::PacketSize::Exact(bytes as usize)),
            PacketLimit::Auto => Ok(plan::PacketSize::Uniform { limit: most as usize }),
        }
    }

    /// As [`StreamSettings::packet_size_within`], for datagrams from a port whose MTU, in bytes of message,
    /// is `mtu`; and the largest packet that this leaves.
    ///
    /// # Errors
    ///
    /// The packet size or the MTU if the port's does not carry it.
    pub(crate) fn message_size_within(
        &self,
        mtu: u32,
    ) -> Result<(plan::PacketSize, u32), SettingsError> {
        let most = self.mtu.unwrap_or(mtu);
        if most > mtu || (most as usize) < MIN_PACKET_SIZE {
            let hint = format!("give {MIN_PACKET_SIZE} to {mtu}, which is the RDMA port's");
            return Err(SettingsError::unusable(MTU, most, hint));
        }
        match self.packet_size {
            PacketLimit::AtMost(bytes) if bytes > most => {
                let hint = format!(
                    "a datagram carries at most {most} bytes here; give {most} or less, or auto"
                );
                Err(SettingsError::unusable(PACKET_SIZE, bytes, hint))
            }
            PacketLimit::AtMost(bytes) => Ok((plan::PacketSize::Exact(bytes as usize), most)),
            PacketLimit::Auto => Ok((plan::PacketSize::Uniform { limit: most as usize }, most)),
        }
    }

    /// The packet size as a plan takes it, for packets in a stream of bytes: no MTU bounds it.
    pub(crate) fn packet_size_in_stream(&self) -> plan::PacketSize {
        match self.packet_size {
            PacketLimit::AtMost(bytes) => plan::PacketSize::Exact(bytes as usize),
            PacketLimit::Auto => plan::PacketSize::Uniform { limit: STREAM_PACKET },
        }
    }
}

pub(super) fn at_least_1(key: Key, value: u64) -> Result<(), SettingsError> {
    match value {
        0 => Err(SettingsError::unusable(key, 0, "give 1 or more")),
        _ => Ok(()),
    }
}

/// Host names join either family when they are resolved.
fn one_family(to: &[Endpoint]) -> Result<(), SettingsError> {
    let v4 = to.iter().find(|endpoint| matches!(endpoint.host(), Host::V4(_)));
    let v6 = to.iter().find(|endpoint| matches!(endpoint.host(), Host::V6(..)));
    let (Some(v4), Some(v6)) = (v4, v6) else { return Ok(()) };
    let hint = format!("destinations must all be of one family: {v4} is IPv4, {v6} is IPv6");
    Err(SettingsError::unusable(TO, format_args!("{v4}, {v6}"), hint))
}

/// Less than the 65,536 bytes that spead2's TCP receivers take unless told otherwise (`max_size`), and
/// no more than a plan has.
const STREAM_PACKET: usize = 65_520;
