//! Why a region is not laid out.

use thiserror::Error;

use super::layout::Layout;
use super::memory::{MemoryError, Pages};

/// Why a region cannot be laid out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A batch is too large.
    #[error("a batch exceeds 4 GiB: put fewer heaps into it")]
    BatchSize,
    /// A heap with constant payload cannot be attached.
    #[error(
        "heap {heap} has constant payload, such as a descriptor, and cannot be attached: \
         send that in a heap of its own"
    )]
    Constant {
        /// Which heap of the batch.
        heap: u32,
    },
    /// Runs that have slots hold all that is sent.
    #[error("payload must lie in the packets where runs have slots; the layout is {layout:?}")]
    Slots {
        /// The layout asked for.
        layout: Layout,
    },
    /// The memory provided cannot hold the batches.
    #[error("batches need {needed} bytes that can be written, and there are {len}, of {pages}")]
    Unsuitable {
        /// Bytes of all batches.
        needed: usize,
        /// Bytes that there are.
        len: usize,
        /// What backs them.
        pages: Pages,
    },
}
