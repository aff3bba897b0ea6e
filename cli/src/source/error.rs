//! Why there is no payload.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use doorbell::pack::NoInterval;
use doorbell::region::{MemoryError, Truncated};

/// Why a source cannot be opened or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be mapped.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A file that does not hold one heap.
    #[error(
        "{} has {len} bytes, fewer than one heap of {heap_len}: lower the heap size to {len} or less",
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        len: usize,
        /// Bytes of a heap.
        heap_len: usize,
    },
    /// An empty file.
    #[error("{} is empty: a source needs at least one heap", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// What is read as it comes ended before there was a heap.
    #[error(
        "the source ended after {bytes} bytes, and a heap takes {heap_len}: nothing was sent; feed it more, or \
         lower the heap size"
    )]
    NoHeap {
        /// What came.
        bytes: usize,
        /// Bytes of a heap.
        heap_len: usize,
    },
    /// A file that differs from the first of several.
    #[error(
        "{} holds {found}, where {}, the first file, holds {expected}: all must be alike",
        path.display(), first.display()
    )]
    Unlike {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// The first file.
        first: PathBuf,
        /// What that holds.
        expected: String,
    },
    /// There are no files at all.
    #[error("a source needs at least one file")]
    NoFile,
    /// A file that has shrunk since it was mapped.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Heaps without payload never use a source up.
    #[error("a heap of 0 bytes takes nothing from the source: the heap size must be at least 1")]
    NoPayload,
    /// Not a numpy array, or none that can be cut into heaps.
    #[error("{}: {reason}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A stream that an array comes out of, with its header.
    #[error(
        "the source begins with the header of a numpy array, which would be sent as samples: give the \
         .npy file itself, or leave its header out"
    )]
    NumpyStream,
    /// Heaps that are no arrays of numbers, or not in memory.
    #[error("the source cannot be packed, {reason}")]
    Unpackable {
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Samples that give no range for integers.
    #[error(transparent)]
    NoInterval(#[from] NoInterval),
    /// A stream cannot be read.
    #[error("cannot read heap {index} of the source: {source}")]
    Read {
        /// Which heap.
        index: u64,
        /// What the kernel said.
        source: io::Error,
    },
}
