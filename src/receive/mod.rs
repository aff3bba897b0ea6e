//! Receivers: one that knows what to expect, and checks every byte of it, and the parts of one that
//! learns from the stream what it is.
//!
//! The verifying [`Receiver`] believes what comes from the wire only as far as an [`Expectation`]
//! allows: heaps of other flavours or lengths take no memory, and no more heaps are assembled at once
//! than it says.
//!
//! Any stream is received by a [`Listener`], put together by a [`Window`], and read with a
//! [`Catalogue`] of the descriptors in it: that makes [`Frame`]s of items, which are numpy arrays.

mod assembler;
mod bits;
mod buffer;
mod catalogue;
mod cnts;
mod error;
mod expectation;
mod frame;
mod heap;
mod item_type;
mod items;
mod landing;
mod listener;
mod partial;
mod past;
mod progress;
mod receiver;
mod scalar;
mod sequence;
mod socket;
mod tally;
mod window;

pub use catalogue::{Catalogue, Described};
pub use error::ReceiveError;
pub use expectation::{Expectation, TIMESTAMP_ITEM, Verifier};
pub use frame::Frame;
pub use heap::{Content, Heap};
pub use item_type::{ItemType, ItemTypeError};
pub use listener::Listener;
pub use progress::Progress;
pub use receiver::{Received, Receiver};
pub use tally::{SubstreamTally, Tally};
pub use window::{Window, WindowConfig};
