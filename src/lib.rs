//! Sends SPEAD heaps from memory that is registered once, in batches that are built once, with one
//! doorbell per batch.
//!
//! # A first stream
//!
//! A **heap** is what SPEAD sends: items, of which some are values inside their item pointers
//! (immediates) and others are payload, cut into packets. Say what your heaps hold, and a [`plan`]
//! says which packet carries which bytes. Nothing is sent yet, no memory is touched:
//!
//! ```
//! use std::sync::Arc;
//! use doorbell::plan::{HeapSpec, PacketSize, Plan};
//! use doorbell::wire::Flavour;
//!
//! // A timestamp, and 8 KiB of samples; 64 such heaps are a batch.
//! let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 8192);
//! let size = PacketSize::Uniform { limit: 8972 };
//! let plan = Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, 64).build()?;
//! assert_eq!(plan.packets().len(), 64);
//! # Ok::<(), doorbell::plan::PlanError>(())
//! ```
//!
//! A [`backend`] is a way onto the wire, and a [`sender`] sends batches through it. Batches are laid out
//! in memory that is registered with the backend once, all headers written:
//!
//! ```
//! # use std::sync::Arc;
//! # use doorbell::plan::{HeapSpec, PacketSize, Plan};
//! # use doorbell::wire::Flavour;
//! use doorbell::backend::udp::{Udp, UdpConfig};
//! use doorbell::region::Layout;
//! use doorbell::sender::Sender;
//!
//! # let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 8192);
//! # let size = PacketSize::Uniform { limit: 8972 };
//! # let plan = Arc::new(Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, 64).build()?);
//! # let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # let address = receiver.local_addr()?;
//! let backend = Udp::open(&UdpConfig::new(vec![address]))?;
//! let mut sender = Sender::new(Box::new(backend));
//! let mut batches = sender.allocate(&plan, Layout::Packed, 2, Vec::new())?;
//!
//! let mut batch = batches.pop().expect("there are two");
//! for heap in 0..batch.heaps() {
//!     batch.set_immediate(heap, 0x1600, 8192 * u64::from(heap))?;
//!     // One chunk if the heap is one packet, else one for each packet, in order.
//!     for chunk in batch.payload(heap).chunks() {
//!         chunk.fill(heap as u8);
//!     }
//! }
//! sender.submit(batch)?;
//!
//! let completion = sender.wait().expect("a batch is in flight");
//! assert_eq!(completion.sent(), 64);
//! let batch = completion.batch; // to be filled again
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The batch *moves* into the sender and comes back in the completion, in every outcome: what is in
//! flight cannot be written by mistake. The completion names each heap that did not go out whole, and
//! why.
//!
//! # More
//!
//! - Several destinations: [`plan::PlanBuilder::flows`], and as many addresses for the backend.
//! - One of them switched off and on while the others go on: [`sender::Sender::substreams`].
//! - Payload that lies in a file: [`region::Layout::Attached`] and [`region::Batch::attach`].
//! - One core that fills while another sends, with or without `async`: [`sender::Pipeline`].
//! - Descriptors, so that receivers know what items mean: [`wire::Descriptor`].
//! - Samples in as few bits as they need: [`pack`].
//! - The other end: [`receive`].

pub mod backend;
pub mod histogram;
pub mod pacer;
pub mod pack;
mod page;
pub mod plan;
pub mod receive;
pub mod region;
pub mod sender;
pub mod settings;
pub mod stream;
pub mod wire;
