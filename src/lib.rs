//! `doorbell` sends SPEAD heaps from memory that is registered once, in batches that are built once,
//! with one doorbell per batch.

pub mod backend;
pub mod config;
pub mod pacer;
pub mod plan;
pub mod receive;
pub mod region;
pub mod sender;
pub mod source;
pub mod wire;
