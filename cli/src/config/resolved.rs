//! From what the user said to what that comes to.

use std::time::Duration;

use doorbell::settings::{BackendKind, ShareKind};

use super::heap;
use super::program::SOURCE;
use super::{
    ConfigError, ConstantItem, HeapContent, ListenAddress, Options, PackConfig, Repeat, Settings,
    SettingsError, SourceKind, keys,
};

/// A stream to send, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the library is told. Without a destination, the stream goes to a receiver of the program's own.
    pub settings: Settings,
    /// What a heap holds.
    pub content: HeapContent,
    /// Whether heaps are numbered by an item of their own.
    pub frame_number: bool,
    /// Where payload comes from.
    pub source: SourceKind,
    /// How often files are sent.
    pub repeat: Repeat,
    /// What its samples are packed as; `None` sends them as they are.
    pub pack: Option<PackConfig>,
    /// Items that are the same in every heap.
    pub constants: Vec<ConstantItem>,
    /// Time between lines of the log that say how the stream goes; `None` for no such lines.
    pub log_interval: Option<Duration>,
    /// Where figures are served to Prometheus; `None` if they are not.
    pub metrics: Option<ListenAddress>,
    /// All of it as it can be written down.
    options: Options,
}

impl Config {
    /// Fills in every default and refuses what cannot be sent.
    ///
    /// # Errors
    /// A value that cannot be used, or keys that do not go together; the error names them.
    pub fn from_options(mut options: Options) -> Result<Self, ConfigError> {
        let kinds = match options.program.source.as_slice() {
            [] => vec![SourceKind::default()],
            kinds => kinds.to_vec(),
        };
        let given = kinds.iter().map(SourceKind::to_string).collect::<Vec<_>>().join(", ");
        let source = SourceKind::join(kinds)
            .map_err(|hint| SettingsError::unusable(SOURCE, format!("[{given}]"), hint))?;
        let repeat = Repeat::resolve(options.program.repeat, &source)?;
        let generated = matches!(source, SourceKind::Pattern | SourceKind::Random { .. });
        if generated && options.settings.heap.count.is_none() {
            options.settings.heap.count = Some(HEAPS_DEFAULT);
        }
        options.settings.check()?;
        let flavour = options.settings.stream.flavour;
        let content = heap::content(&options.program, &source, flavour)?;
        ConstantItem::check(&options.constants, &content, flavour)?;
        let pack = PackConfig::resolve(&options.program, &source, &content)?;
        share_files(&options.settings, &source)?;
        if options.settings.stream.to.is_empty() {
            serve_alone(&options.settings)?;
        }
        options.program.source = source.clone().split();
        if let HeapContent::Size(size) = content {
            options.program.size = Some(size);
        }
        if let (Some(bytes), None) = (content.bytes(), &pack) {
            options.settings.batch.heaps = Some(options.settings.batch_heaps(bytes));
        }
        let log_interval = u64::from(options.program.log_interval);
        Ok(Self {
            settings: options.settings.clone(),
            content,
            frame_number: options.program.frame_number,
            source,
            repeat,
            pack,
            constants: options.constants.clone(),
            log_interval: (log_interval > 0).then(|| Duration::from_secs(log_interval)),
            metrics: options.program.metrics.clone(),
            options,
        })
    }

    /// The configuration as TOML, complete: reading it back gives the same configuration.
    pub fn to_toml(&self) -> String {
        self.options.to_toml()
    }
}

/// Whether there are files, if files are shared.
fn share_files(settings: &Settings, source: &SourceKind) -> Result<(), SettingsError> {
    if settings.senders.share_of(ShareKind::Files).is_none() {
        return Ok(());
    }
    if !matches!(source, SourceKind::Npy(_) | SourceKind::File(_)) {
        let hint = "files are shared, and it is none; share heaps, or give files";
        return Err(SettingsError::unusable(SOURCE, source, hint));
    }
    if settings.heap.count.is_some() {
        let hint = "each sender sends its files whole; drop the number, or share heaps";
        return Err(SettingsError::conflict(keys::HEAPS, keys::SHARE, hint));
    }
    Ok(())
}

/// Whether a stream can go to the program's own receiver, on loopback.
fn serve_alone(settings: &Settings) -> Result<(), SettingsError> {
    let hint = if matches!(settings.backend.kind, BackendKind::Verbs | BackendKind::Tcp) {
        "only udp reaches the receiver on loopback that stands in for it; give HOST:PORT".into()
    } else if settings.senders.ranks.is_some() {
        "senders share a receiver, so none has one of its own; give HOST:PORT".into()
    } else if settings.heap.descriptors_every.is_some() {
        format!("{} is for receivers that join late; give HOST:PORT", keys::DESCRIPTORS_EVERY)
    } else {
        return Ok(());
    };
    Err(SettingsError::missing(keys::TO, hint))
}

/// 65,536 heaps of 8 KiB: half a gibibyte.
const HEAPS_DEFAULT: u64 = 65_536;
