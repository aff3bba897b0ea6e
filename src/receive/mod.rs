//! Receivers: what takes any stream, puts its heaps together, and says what is in them.
//!
//! A [`Listener`] takes packets from sockets, [`Connections`] from TCP, a [`Capture`] from a file. A [`Window`] makes heaps of them, and says what came and
//! what did not. A [`Catalogue`] learns the descriptors in heaps: that makes [`Frame`]s of items, which are
//! numpy arrays. A [`Verification`] compares heaps with what they should be.
//!
//! ```
//! use std::time::Duration;
//! use doorbell::receive::{Listener, Window, WindowConfig};
//! use doorbell::settings::Settings;
//! use doorbell::stream::{Heap, Stream};
//!
//! let mut listener = Listener::bind(&["127.0.0.1:0".parse()?], None, 1 << 20)?;
//! let mut window = Window::new(WindowConfig { heaps: 64, max_heap_len: 1 << 20, substreams: 1 });
//!
//! let to = listener.local_addrs().next().expect("as many as were asked for").to_string();
//! let mut settings = Settings::to(&to)?;
//! settings.heap.count = Some(10);
//! let heap = Heap::new().array("adc_samples", 0x3300, "i1", [1024]);
//! let mut stream = Stream::open(settings, heap)?;
//! while let Some(batch) = stream.idle() {
//!     let heaps = stream.room();
//!     stream.submit(batch, heaps)?;
//! }
//! stream.close()?;
//!
//! let mut heaps = 0;
//! while !window.is_stopped() {
//!     listener.receive(&mut window, Duration::from_secs(1))?;
//!     while let Some(heap) = window.take() {
//!         heaps += u32::from(heap.is_data());
//!         window.give_back(heap);
//!     }
//! }
//! assert_eq!((heaps, window.tally().missing), (10, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bits;
mod buffer;
mod capture;
mod catalogue;
mod cnts;
mod connections;
mod error;
mod frame;
mod heap;
mod incoming;
mod item_type;
mod listener;
mod packet_stream;
mod partial;
mod placement;
mod recent;
mod scalar;
mod socket;
mod substream;
mod tally;
mod verification;
mod window;

pub use capture::{Capture, CaptureError};
pub use catalogue::{Catalogue, Described};
pub use connections::Connections;
pub use error::ReceiveError;
pub use frame::Frame;
pub use heap::{Content, Heap, HeapView};
pub use item_type::{FrameSize, ItemType, ItemTypeError};
pub use listener::{Listener, SourceFilter};
#[doc(hidden)]
pub use packet_stream::arbitrary_stream;
pub use tally::{Refusal, SubstreamTally, Tally};
pub use verification::{KnownStream, TIMESTAMP_ITEM, Verification, Verifier};
pub use window::{Window, WindowConfig};
