//! The order of packets.

/// In which order the packets of a batch go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Heap by heap; where there are several flows, all of the batch's heaps to one, then all to the
    /// next, so that runs of equal packets span heaps.
    #[default]
    Serial,
    /// A packet of each heap in turn.
    RoundRobin,
}
