//! What a stream can be told: every setting is declared once, in the table of its section.
//!
//! A [`Settings`] is a plain value: its fields are set, or [`Settings::set`] reads a setting from text under
//! the name that it has in a configuration file, on a command line or as a keyword. Whoever offers settings to
//! people makes flags, keys and pages from [`Settings::SECTIONS`].
//!
//! ```
//! use doorbell::settings::Settings;
//!
//! let mut settings = Settings::to("239.1.0.0+3:7148")?;
//! settings.batch.in_flight = 4;
//! settings.set("rate", "17.2Gb/s")?;
//! assert_eq!(settings.stream.destinations().count(), 4);
//!
//! let error = settings.set("pacing.rate", "17.2Gbps").unwrap_err().to_string();
//! assert!(error.starts_with("pacing.rate: `17.2Gbps` is not a rate: its unit is none of Gb/s"));
//! # Ok::<(), doorbell::settings::SettingsError>(())
//! ```

mod backend;
mod batch;
mod choices;
mod endpoint;
mod error;
mod every;
mod frame_rate;
mod heap;
mod interface;
pub mod keys;
mod number;
mod pacing;
mod packet_limit;
mod queue;
mod senders;
mod setting;
mod stream;
#[cfg(test)]
mod tests;
mod units;

pub use backend::BackendSettings;
pub use batch::BatchSettings;
pub use choices::{
    BackendKind, CompletionKind, DescriptorPlacement, LayoutKind, PacingMode, QueuePairKind,
    ShareKind,
};
pub use endpoint::{Endpoint, Host};
pub use error::SettingsError;
pub use every::{Every, Span};
pub use frame_rate::FrameRate;
pub use heap::HeapSettings;
pub use interface::InterfaceName;
pub use number::number;
pub use pacing::PacingSettings;
pub use packet_limit::PacketLimit;
pub use senders::{Rank, SendersSettings};
pub use setting::{Form, InvalidValue, Key, List, One, Optional, Section, Setting};
pub use stream::StreamSettings;
pub use units::{BitRate, Ratio, Size};

/// A row of the table of settings.
type Row = Setting<Settings>;

/// What a stream is told. [`Settings::default`] is what holds where nothing is said, but for the
/// destination, which must be.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Where the stream goes and what its packets look like.
    pub stream: StreamSettings,
    /// How many heaps there are, and where their descriptors go.
    pub heap: HeapSettings,
    /// How many heaps go together.
    pub batch: BatchSettings,
    /// How fast packets go.
    pub pacing: PacingSettings,
    /// The way onto the wire.
    pub backend: BackendSettings,
    /// Which share of the stream is this sender's, where there are several.
    pub senders: SendersSettings,
}

impl Settings {
    /// All settings.
    pub const SECTIONS: &[Section<Self>] = &[
        stream::SECTION,
        heap::SECTION,
        batch::SECTION,
        pacing::SECTION,
        backend::SECTION,
        senders::SECTION,
    ];

    /// A stream to `HOST:PORT`, or to a run of addresses, `239.1.0.0+3:7148`.
    ///
    /// # Errors
    ///
    /// If that is no destination.
    pub fn to(destination: &str) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        settings.set(keys::TO.as_str(), destination)?;
        Ok(settings)
    }

    /// The setting of a key, `pacing.rate`, or of a keyword, `rate`, which may have dashes for underscores.
    pub fn find(name: &str) -> Option<&'static Setting<Self>> {
        let keyword = name.replace('-', "_");
        let mut all = Self::SECTIONS.iter().flat_map(|section| section.settings);
        all.find(|setting| setting.key.as_str() == name || setting.keyword == keyword)
    }

    /// Sets a setting, named as in [`Settings::find`], to what `value` says.
    ///
    /// # Errors
    ///
    /// If there is no such setting, or the text is no value of it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let unknown = || SettingsError::Unknown { given: name.to_owned() };
        let setting = Self::find(name).ok_or_else(unknown)?;
        let wrong = |error: InvalidValue| SettingsError::Value {
            key: setting.key,
            reason: error.to_string(),
        };
        setting.read(self, &[value]).map_err(wrong)
    }

    /// Refuses what cannot be sent, whatever the heaps, the route and the device.
    ///
    /// # Errors
    ///
    /// A value that cannot be used, or settings that do not go together; the error names them.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.stream.check(self.backend.kind == BackendKind::Tcp)?;
        self.heap.check()?;
        self.pacing.check()?;
        self.senders.check(self)?;
        self.batch.check(self)?;
        self.backend.check(&self.stream)
    }

    /// How many destinations this sender has of all that the stream has; 1 if none is named.
    pub(crate) fn own_destinations(&self) -> u64 {
        let all = self.stream.to.iter().map(|endpoint| u64::from(endpoint.count())).sum();
        self.senders.destinations(all).max(1)
    }
}
