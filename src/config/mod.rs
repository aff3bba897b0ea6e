//! What to send, from a TOML file and flags.
//!
//! [`Options`] is what the user said, in a file ([`Options::from_toml`]) or as flags (it derives
//! [`clap::Args`]); [`Options::or`] puts the flags over the file. [`Config`] is what that comes to:
//! every default filled in, every conflict refused with the names of its keys.
//!
//! ```
//! use std::path::Path;
//! use doorbell::config::{Config, Options};
//!
//! let file = "[stream]\nto = '239.1.0.0+3:7148'\n[heap]\nsize = '64KiB'\n";
//! let config = Config::from_options(Options::from_toml(file, Path::new("stream.toml"))?)?;
//! assert_eq!(config.stream.destinations().count(), 4);
//! assert_eq!(config.batch.heaps, Some(8));
//! # Ok::<(), doorbell::config::ConfigError>(())
//! ```

#[doc(hidden)]
pub mod fuzz;

mod array;
mod backend;
mod batch;
mod choices;
mod constant;
mod endpoint;
mod error;
mod every;
mod file;
mod frames;
mod heap;
mod interface;
mod item;
mod keys;
mod options;
mod pacing;
mod pack;
mod packet_size;
mod queue;
mod resolve;
mod senders;
mod source;
mod stream;
#[cfg(test)]
mod tests;

mod units;
mod value;

use std::net::SocketAddr;
use std::time::Duration;

pub use array::{ArrayType, ElementType};
pub use backend::{BackendChoice, BackendConfig};
pub use batch::BatchConfig;
pub use choices::{
    BackendKind, CompletionKind, DescriptorPlacement, LayoutKind, PacingMode, QueuePairKind,
};
pub use constant::{ConstantItem, ConstantValue};
pub use endpoint::{Endpoint, Host};
pub use error::{ConfigError, Key, Place};
pub use every::{Every, Span};
pub use frames::{FrameRate, Repeat};
pub use heap::{HeapConfig, HeapContent};
pub use interface::Interface;
pub use item::{Item, ItemSpec};
pub use options::{
    BackendOptions, BatchOptions, HeapOptions, MonitorOptions, Options, SourceOptions,
    StreamOptions,
};
pub use pacing::{PacingConfig, PacingOptions};
pub use pack::{PackConfig, PackRange};
pub use packet_size::PacketSize;
pub use senders::{Rank, SendersConfig, SendersOptions, ShareKind};
pub use source::SourceKind;
pub use stream::StreamConfig;
pub use units::{Rate, Ratio, Size};
pub use value::InvalidValue;

/// A stream to send, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where the stream goes and what its packets look like.
    pub stream: StreamConfig,
    /// What a heap holds, and how many there are.
    pub heap: HeapConfig,
    /// Where payload comes from.
    pub source: SourceKind,
    /// How often files are sent.
    pub repeat: Repeat,
    /// What its samples are packed as; `None` sends them as they are.
    pub pack: Option<PackConfig>,
    /// How many heaps go together.
    pub batch: BatchConfig,
    /// How fast packets go.
    pub pacing: PacingConfig,
    /// The way onto the wire.
    pub backend: BackendConfig,
    /// Which share of the stream is this sender's, where there are several.
    pub senders: SendersConfig,
    /// Items that are the same in every heap.
    pub constants: Vec<ConstantItem>,
    /// What is said while the stream runs.
    pub monitor: MonitorConfig,
}

/// What is said while the stream runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorConfig {
    /// Time between lines of the log that say how the stream goes; `None` for no such lines.
    pub log_interval: Option<Duration>,
    /// Where figures are served to Prometheus; `None` if they are not.
    pub metrics: Option<SocketAddr>,
}
