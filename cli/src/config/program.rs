//! The program's own settings, beside those of the library's streams.

use doorbell::pack::PackFormat;
use doorbell::settings::{Key, Section, Setting, Size};

use super::{ItemSpec, ListenAddress, PackRange, Repeat, SourceKind};

/// What the program sends and says, as far as it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Payload of a heap.
    pub size: Option<Size>,
    /// The items of a heap, in place of its size.
    pub items: Vec<ItemSpec>,
    /// Whether heaps are numbered by an item of their own.
    pub frame_number: bool,
    /// Where payload comes from.
    pub source: Vec<SourceKind>,
    /// Type of raw samples.
    pub dtype: Option<String>,
    /// Shape of a frame.
    pub shape: Option<String>,
    /// How often files are sent.
    pub repeat: Option<Repeat>,
    /// What samples are packed as.
    pub pack: Option<PackFormat>,
    /// Values that packed integers stand for.
    pub range: Option<PackRange>,
    /// Seconds between lines of the log.
    pub log_interval: u32,
    /// Where figures are served.
    pub metrics: Option<ListenAddress>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            size: None,
            items: Vec::new(),
            frame_number: false,
            source: Vec::new(),
            dtype: None,
            shape: None,
            repeat: None,
            pack: None,
            range: None,
            log_interval: 1,
            metrics: None,
        }
    }
}

type Own = Setting<Program>;

impl Program {
    /// All of them.
    pub const SECTIONS: &[Section<Self>] = &[
        Section {
            name: "heap",
            title: "Heaps",
            settings: &[
                Own::optional(
                    HEAP_SIZE,
                    "heap_size",
                    "SIZE",
                    "Payload of a heap, such as 8192 or 1MiB; of a .npy file, if its array has one axis",
                    "8KiB",
                    |it| &mut it.size,
                )
                .dashes(),
                Own::list(
                    ITEMS,
                    "items",
                    "[ID=]NAME:TYPE[DIMS]",
                    "Items of a heap, such as adc_x:i8[4096],0x3400=w:<f4[16x2], in place of --heap-size",
                    "one of --heap-size",
                    |it| &mut it.items,
                )
                .commas(),
                Own::one(
                    Key::new("heap.frame_number"),
                    "frame_number",
                    "BOOL",
                    "Number heaps from 0 on by an item of their own, 0x1601 frame_number",
                    "false",
                    |it| &mut it.frame_number,
                )
                .switch(),
            ],
        },
        Section {
            name: "source",
            title: "Source",
            settings: &[
                Own::list(
                    SOURCE,
                    "source",
                    "SOURCE",
                    "Payload: pattern, random:SEED, a .npy file, any other file or FIFO, or - for standard \
                     input; may be repeated for several files, or be a pattern such as 'frames/*.npy'",
                    "pattern",
                    |it| &mut it.source,
                )
                .dashes(),
                Own::optional(
                    DTYPE,
                    "dtype",
                    "TYPE",
                    "Type of the samples of a raw file, a FIFO or standard input, such as '<f4' or u10, with \
                     --shape",
                    "bytes, unless --items names others",
                    |it| &mut it.dtype,
                ),
                Own::optional(
                    SHAPE,
                    "shape",
                    "DIMS",
                    "Shape of a frame, each a heap, such as 2160x3840x3; of raw samples with --dtype. An array of one \
                     axis is cut into such frames",
                    "a heap's size; of .npy files, all axes but the first",
                    |it| &mut it.shape,
                ),
                Own::optional(
                    REPEAT,
                    "repeat",
                    "N|forever",
                    "Send files N times, or for ever",
                    "1",
                    |it| &mut it.repeat,
                )
                .bare("forever"),
                Own::optional(
                    PACK,
                    "pack",
                    "u8|u10|u12|u14|u16|f16|f32",
                    "Convert the samples of a .npy file, or of the only item of a raw file, a FIFO or standard \
                     input, to packed integers or floats",
                    "send them as they are",
                    |it| &mut it.pack,
                ),
                Own::optional(
                    RANGE,
                    "range",
                    "auto|LOW..HIGH",
                    "Values that the packed integers stand for",
                    "auto, those of the first heap",
                    |it| &mut it.range,
                )
                .dashes(),
            ],
        },
        Section {
            name: "monitor",
            title: "Monitoring",
            settings: &[
                Own::one(
                    Key::new("monitor.log_interval"),
                    "log_interval",
                    "SECONDS",
                    "Seconds between lines of the log that say how the stream goes, which -v shows; 0 for none",
                    "1",
                    |it| &mut it.log_interval,
                )
                .number(u32::MAX as u64),
                Own::optional(
                    Key::new("monitor.metrics"),
                    "metrics",
                    "HOST:PORT",
                    "Serve figures of the stream to Prometheus, at http://HOST:PORT/metrics, such as \
                     localhost:9912",
                    "off",
                    |it| &mut it.metrics,
                ),
            ],
        },
    ];
}

pub const HEAP_SIZE: Key = Key::new("heap.size");
pub const ITEMS: Key = Key::new("heap.items");
pub(super) const SOURCE: Key = Key::new("source.kind");
pub(super) const DTYPE: Key = Key::new("source.dtype");
pub const SHAPE: Key = Key::new("source.shape");
pub(super) const REPEAT: Key = Key::new("source.repeat");
pub(super) const PACK: Key = Key::new("source.pack");
pub(super) const RANGE: Key = Key::new("source.range");
