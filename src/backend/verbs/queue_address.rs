//! Where an unreliable-datagram queue is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Where an unreliable-datagram queue is, and what it asks of those who send to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueAddress {
    /// Address of its port, or of a multicast group; for RoCE an IPv6 address, or an IPv4 address
    /// mapped into one (InfiniBand Architecture 1.4, annex A17).
    pub gid: Ipv6Addr,
    /// Number of its queue pair, of 24 bits; [`QueueAddress::MULTICAST`] for groups.
    pub number: u32,
    /// The key that messages must carry, else they are dropped.
    pub key: u32,
    /// Local identifier of its port, in an InfiniBand subnet; 0 on Ethernet, which has none.
    pub lid: u16,
}

impl QueueAddress {
    /// The number that messages to multicast groups carry (InfiniBand Architecture 1.4, 10.5.1).
    pub const MULTICAST: u32 = 0xff_ffff;
    /// The key unless another is given: that of datagrams of `rdma_cm(7)` (`RDMA_UDP_QKEY`).
    pub const KEY: u32 = 0x0123_4567;

    /// The GID as an address: IPv4 if it is one that is mapped.
    pub fn ip(&self) -> IpAddr {
        self.gid.to_canonical()
    }
}

/// As `--to` takes it: `GID/QPN/QKEY`, and the LID if there is one.
impl fmt::Display for QueueAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:#x}/{:#x}", self.ip(), self.number, self.key)?;
        match self.lid {
            0 => Ok(()),
            lid => write!(f, "/{lid:#x}"),
        }
    }
}
