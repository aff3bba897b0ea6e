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
#![allow(unsafe_code, reason = "memory that hardware reads is behind raw pointers")]

mod batch;
mod guard;
mod in_flight;
mod layout;
mod memory;
mod payload;

pub use batch::{Batch, ImmediateError, Slot};
pub use in_flight::{InFlight, PacketBytes};
pub use layout::{Layout, Region, RegionError};
pub use memory::{Memory, MemoryError, Pages, Truncated};
pub use payload::{Chunks, PayloadMut, PayloadWriter};
