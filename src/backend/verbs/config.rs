//! What to send from, and with which headers.

use std::time::Duration;

use crate::wire::frame::FrameHeader;

/// Which device to send from, and what to put before the packets of each flow.
#[derive(Clone, Debug)]
pub struct VerbsConfig {
    /// Name of the device, such as `mlx5_0`.
    pub device: String,
    /// Its port, from 1.
    pub port: u8,
    /// Headers of each flow, all of one length.
    pub headers: Vec<FrameHeader>,
    /// Bytes of IP packet that the routes carry.
    pub mtu: u32,
    /// Packets that are to be in flight at most; fewer where the device's queues are shorter.
    pub depth: u32,
    /// Pieces of memory that a packet has at most: 1 for packed regions, 2 for others.
    pub pieces: u32,
    /// How to wait for completions.
    pub completion: CompletionMode,
}

/// How to wait for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionMode {
    /// Look for them all the time.
    Poll,
    /// Look for so long, then sleep until the device interrupts.
    Event {
        /// How long to look before going to sleep.
        spin: Duration,
    },
}
