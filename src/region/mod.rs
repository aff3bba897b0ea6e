//! Memory that is registered with a backend once, and the batches in it.
//!
//! A [`Region`] holds the packets of a few batches, headers written. A [`Batch`] is the right to
//! touch the bytes of one of them; it moves into the sender at submit and comes back at completion,
//! so that memory in flight is out of reach:
//!
//! ```
//! # use doorbell::{region::Batch, sender::Sender};
//! fn in_time(sender: &mut Sender, mut batch: Batch) {
//!     batch.fill(0, &[1]);
//!     sender.submit(batch).unwrap();
//! }
//! ```
//!
//! ```compile_fail,E0382
//! # use doorbell::{region::Batch, sender::Sender};
//! fn late(sender: &mut Sender, mut batch: Batch) {
//!     batch.fill(0, &[1]);
//!     sender.submit(batch).unwrap();
//!     batch.fill(0, &[2]); // the batch is in flight, and not ours
//! }
//! ```
//!
//! Payload in a mapped file is nobody's: another process may write the file, or cut it short, at any time.
//! So there is no `&[u8]` over it, but [`MappedBytes`], which are copied to be looked at:
//!
//! ```
//! # use doorbell::region::Memory;
//! fn is_text(memory: &Memory) -> bool {
//!     let bytes = memory.file_bytes(0, memory.len()).expect("a file");
//!     str::from_utf8(&bytes.to_vec()).is_ok()
//! }
//! ```
//!
//! ```compile_fail,E0308
//! # use doorbell::region::Memory;
//! fn is_text(memory: &Memory) -> bool {
//!     let bytes = memory.file_bytes(0, memory.len()).expect("a file");
//!     str::from_utf8(bytes).is_ok()
//! }
//! ```
#![allow(unsafe_code, reason = "memory that hardware reads is behind raw pointers")]

mod allocate;
mod arrangement;
mod batch;
mod error;
mod guard;
mod in_flight;
mod layout;
mod mapped_bytes;
#[cfg_attr(miri, path = "heap.rs")]
mod mapping;
mod memory;
mod payload;
mod placement;
#[expect(clippy::module_inception, reason = "one noun a file, and this is the noun")]
mod region;
mod sigbus;
mod watched;

pub use arrangement::{Arrangement, SlotGrid};
pub use batch::{Batch, ImmediateError, Slot};
pub use error::RegionError;
pub use in_flight::{InFlight, PacketBytes};
pub use layout::Layout;
pub use mapped_bytes::MappedBytes;
pub use memory::{Memory, MemoryError, Pages, Truncated};
pub use payload::{Chunks, PayloadMut, PayloadWriter};
pub use placement::{Placement, Slots};
pub use region::Region;

#[cfg(test)]
mod tests;
