//! The immutable geometry of a batch: which packet carries which bytes of which heap.
//!
//! A [`Plan`] is made once, from [`HeapSpec`]s, and holds neither addresses nor payload: destinations
//! are flows, known by index, and where bytes lie is the business of a region.

mod builder;
mod error;
mod heap;
mod order;
mod packets;
mod run;
mod shape;

pub use builder::{PacketSize, PlanBuilder};
pub use error::PlanError;
pub use heap::{HeapSpec, Item};
pub use order::Order;
pub use packets::{Plan, PlannedPacket};
pub use run::{Run, RunLimits, runs};
pub(crate) use shape::MAX_PACKET_SIZE;

#[cfg(test)]
mod tests;
