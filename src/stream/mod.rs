//! The whole life of a stream: settings and what a heap holds, open, batches out and back, report.
//!
//! ```
//! use doorbell::settings::Settings;
//! use doorbell::stream::{Heap, Stream};
//!
//! # let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # let address = receiver.local_addr()?.to_string();
//! let heap = Heap::new()
//!     .immediate("timestamp", 0x1600)
//!     .array("adc_samples", 0x3300, "i1", [8192])
//!     .describe("ADC converter output");
//! let mut settings = Settings::to(&address)?;
//! settings.heap.count = Some(1000);
//!
//! let mut stream = Stream::open(settings, heap)?;
//! while let Some(mut batch) = stream.idle() {
//!     let (first, heaps) = (stream.submitted(), stream.room());
//!     for heap in 0..heaps {
//!         let index = first + u64::from(heap);
//!         batch.set_immediate(heap, 0x1600, 8192 * index)?;
//!         batch.fill(heap, &[index as u8; 8192]);
//!     }
//!     stream.submit(batch, heaps)?;
//! }
//! let report = stream.close()?;
//! assert_eq!((report.sent(), report.heaps_failed), (1000, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Descriptors go before the data, a stop heap after it. Another thread posts what is submitted, so that a
//! source which is slow, or blocks, holds nothing back: what is in flight goes on, descriptors are repeated
//! when they are due, a [`Stop`] ends it all.
//!
//! [`Stop`]: crate::sender::Stop

mod destination;
mod error;
mod heap;
mod jitter;
mod ledger;
mod monitor;
mod pacing;
mod plan;
mod report;
#[expect(clippy::module_inception, reason = "a stream is what this floor is about")]
mod stream;
mod transport;

pub use error::{Broken, BrokenReason, StreamError};
pub use heap::{Heap, HeapError};
pub use jitter::{Bucket, Jitter};
pub use ledger::{Destination, Figures};
pub use monitor::Monitor;
pub use plan::StreamPlan;
pub use report::Report;
pub use stream::{NextBatch, Stream};
pub use transport::Transport;
