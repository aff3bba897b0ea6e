//! How a backend wants packets to lie: what is before them, and what goes together.

use crate::plan::RunLimits;

/// How a backend wants the packets of a batch to lie.
///
/// What it sends as one message is a *run*: packets that are adjacent, with bytes of the backend's own before the
/// first of them. Where packets go one by one, each is a run.
///
/// ```
/// use doorbell::region::Placement;
///
/// // Room for Ethernet, IPv4 and UDP before each packet.
/// let framed = Placement::one_by_one(42);
/// assert_eq!(framed.run.segments, 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes of the backend's own before each run, such as the headers of lower protocols.
    pub headroom: usize,
    /// How much a run may be.
    pub run: RunLimits,
    /// Where runs start, if not where the one before ends.
    pub slots: Option<Slots>,
}

/// Room for runs as rings have it: a slot for each, all of one length. A run starts its slot, headroom first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The length of a slot is a multiple of this many bytes, a power of two.
    pub multiple: usize,
    /// Slots lie in blocks of this many bytes, a power of two and at least a page, and none of them across two.
    /// Where a slot is larger, blocks are of the next power of two.
    pub block: usize,
}

impl Placement {
    /// Packets back to back, each a run, and nothing before them.
    pub const ADJACENT: Self = Self::adjacent(RunLimits::ONE_PACKET);

    /// Packets back to back, in runs of up to `run`, and nothing before them.
    pub const fn adjacent(run: RunLimits) -> Self {
        Self { headroom: 0, run, slots: None }
    }

    /// Each packet by itself, with `headroom` bytes before it.
    pub const fn one_by_one(headroom: usize) -> Self {
        Self { headroom, run: RunLimits::ONE_PACKET, slots: None }
    }

    /// Whether a run can be cut in two. Where there are bytes before each run, its rest would have none.
    pub(super) fn is_divisible(&self) -> bool {
        self.run.segments == 1 || (self.headroom == 0 && self.slots.is_none())
    }
}
