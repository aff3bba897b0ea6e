//! Sends SPEAD heaps from memory that is registered once, in batches that are built once, with one
//! doorbell per batch.
//!
//! # A stream
//!
//! A **heap** is what SPEAD sends: items, of which some are values inside their item pointers
//! (immediates) and others are payload, cut into packets. Say what your heaps hold and where they go, fill
//! batches of them, and let another thread send:
//!
//! ```
//! use doorbell::settings::Settings;
//! use doorbell::stream::{Heap, Stream};
//!
//! # let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # let address = receiver.local_addr()?.to_string();
//! // A timestamp, and 8 KiB of samples.
//! let heap = Heap::new()
//!     .immediate("timestamp", 0x1600)
//!     .array("adc_samples", 0x3300, "i1", [8192]);
//! let mut settings = Settings::to(&address)?;
//! settings.heap.count = Some(100);
//!
//! let mut stream = Stream::open(settings, heap)?;
//! while let Some(mut batch) = stream.idle() {
//!     let (first, heaps) = (stream.submitted(), stream.room());
//!     for (heap, index) in (0..heaps).zip(first..) {
//!         batch.set_immediate(heap, 0x1600, 8192 * index)?;
//!         // One chunk if the heap is one packet, else one for each packet, in order.
//!         for chunk in batch.payload(heap).chunks() {
//!             chunk.fill(index as u8);
//!         }
//!     }
//!     stream.submit(batch, heaps)?;
//! }
//! assert_eq!(stream.close()?.sent(), 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A batch *moves* into the stream and comes back once it is done, in every outcome: what is in flight cannot
//! be written by mistake. See [`stream`] for what goes before and after the data, and [`settings`] for what
//! can be said.
//!
//! # What it stands on
//!
//! A [`plan`] says which packet carries which bytes. A [`backend`] is a way onto the wire, and a
//! [`sender`] sends batches through it, which are laid out in memory that is registered once, all headers
//! written ([`region`]):
//!
//! ```
//! use std::sync::Arc;
//! use doorbell::backend::udp::{Udp, UdpConfig};
//! use doorbell::plan::{HeapSpec, PacketSize, Plan};
//! use doorbell::region::Layout;
//! use doorbell::sender::Sender;
//! use doorbell::wire::Flavour;
//!
//! let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 8192);
//! let size = PacketSize::Uniform { limit: 8972 };
//! let plan = Arc::new(Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, 64).build()?);
//!
//! # let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # let address = receiver.local_addr()?;
//! let mut sender = Sender::new(Box::new(Udp::open(&UdpConfig::new(vec![address]))?));
//! let mut batches = sender.allocate(&plan, Layout::Packed, 2, Vec::new())?;
//! let mut batch = batches.pop().expect("there are two");
//! for heap in 0..batch.heaps() {
//!     batch.set_immediate(heap, 0x1600, 8192 * u64::from(heap))?;
//!     batch.fill(heap, &[heap as u8; 8192]);
//! }
//! sender.submit(batch)?;
//! let completion = sender.wait().expect("a batch is in flight");
//! assert_eq!(completion.sent(), 64);
//! let batch = completion.batch; // to be filled again
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The completion names each heap that did not go out whole, and why.
//!
//! # More
//!
//! - Several destinations, and one of them switched off and on while the others go on:
//!   [`stream::Stream::substreams`].
//! - Payload that lies in a file: [`stream::Heap::attached`] and [`region::Batch::attach`].
//! - Batches that are awaited, by no particular runtime: [`stream::Stream::idle_async`].
//! - A sender on a thread of its own, without the rest of a stream: [`sender::Pipeline`].
//! - Samples in as few bits as they need: [`pack`].
//! - The other end: [`receive`].

pub mod backend;
pub mod histogram;
pub mod output;
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
