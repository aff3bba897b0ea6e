//! Where headers and payload lie to each other.

/// How the packets of a batch lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Header and payload of a packet adjacent, packets back to back: for payload that is written
    /// in place. A run of packets is one piece of memory.
    Packed,
    /// Headers in an arena of their own, the payload of each heap contiguous.
    Split,
    /// Headers in an arena of their own; the payload of each heap is attached from a source, such
    /// as a mapped file, and is never copied.
    Attached,
}
