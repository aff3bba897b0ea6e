//! The verifying receiver: assembles heaps, and checks every byte of them.
//!
//! What comes from the wire is believed only as far as an [`Expectation`] allows: heaps of other
//! flavours or lengths take no memory, and no more heaps are assembled at once than it says.

mod assembler;
mod expectation;
mod items;
mod partial;
mod progress;
mod receiver;
mod sequence;

pub use expectation::{Expectation, TIMESTAMP_ITEM};
pub use progress::Progress;
pub use receiver::{ReceiveError, Received, Receiver};
