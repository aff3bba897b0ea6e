//! Where a UDP backend sends to, and how.

use std::net::SocketAddr;

use super::segmentation::max_segments;
use crate::backend::MAX_UDP_PAYLOAD;
use crate::backend::interface::Interface;
use crate::backend::socket::ZeroCopy;
use crate::plan::RunLimits;
use crate::region::Placement;

/// Where a UDP backend sends to, and how.
#[derive(Clone, Debug)]
pub struct UdpConfig {
    /// Destinations, one for each flow: all IPv4, or all IPv6.
    pub destinations: Vec<SocketAddr>,
    /// The interface whose address packets come from, and that multicast leaves through; the
    /// kernel's choice if `None`.
    pub interface: Option<Interface>,
    /// Time to live, or hop limit, of all packets; the kernel's if `None`: 1 for multicast.
    pub ttl: Option<u8>,
    /// Source port; 0 for any that is free.
    pub source_port: u16,
    /// Bytes that the kernel may hold before it asks to wait. Without privilege, it holds no more
    /// than `net.core.wmem_max`.
    pub send_buffer: usize,
    /// Whether packets are sent from where they lie.
    pub zero_copy: ZeroCopy,
    /// Who cuts messages into packets.
    pub gso: Gso,
}

/// Segmentation offload: whether one message is many packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// As many as the kernel takes, which it or the device cuts apart (`UDP_SEGMENT` of udp(7)); where that is
    /// refused, packets go one by one for a while.
    #[default]
    Auto,
    /// Each packet is a message. That costs much time, and is for kernels and devices that take messages and
    /// cut them wrongly.
    Off,
}

impl UdpConfig {
    /// Sends to `destinations`, and leaves all else to the kernel.
    pub fn new(destinations: Vec<SocketAddr>) -> Self {
        Self {
            destinations,
            interface: None,
            ttl: None,
            source_port: 0,
            send_buffer: SEND_BUFFER,
            zero_copy: ZeroCopy::Auto,
            gso: Gso::Auto,
        }
    }
}

impl UdpConfig {
    /// Packets back to back, in runs that are messages.
    pub fn placement(&self) -> Placement {
        let segments = match self.gso {
            Gso::Auto => max_segments(),
            Gso::Off => 1,
        };
        Placement::adjacent(RunLimits { segments, bytes: MAX_UDP_PAYLOAD })
    }
}

/// Some dozens of the largest messages: what a fast link sends while a core does something else.
const SEND_BUFFER: usize = 4 << 20;
