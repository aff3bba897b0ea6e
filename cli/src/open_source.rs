//! From a configuration to a source of payload.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, HeapContent, SettingsError, SourceKind, keys};
use crate::source::{
    Cut, Files, Packed, PackedReader, Pattern, Random, Reader, Source, SourceError, SourceItem,
};
use doorbell::output::Output;
use doorbell::sender::Stop;
use doorbell::settings::ShareKind;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::exit::Failure;
use super::pipe::Pipe;
use super::plural;

/// Opens the source, packed if that is asked for; `stop` ends what is read as it comes.
pub fn open(config: &Config, stop: &Stop) -> Result<Box<dyn Source>, Failure> {
    // Items that were named, else one that is as long as a heap.
    let items = |whole: fn(usize) -> SourceItem| match &config.content {
        HeapContent::Items(items) => items
            .iter()
            .map(|item| SourceItem {
                descriptor: item.descriptor(),
                size: item.array().bytes() as usize,
            })
            .collect(),
        content => vec![whole(content.bytes().unwrap_or(0) as usize)],
    };
    let times = config.repeat.times();
    let source: Box<dyn Source> = match &config.source {
        SourceKind::Pattern => Box::new(Pattern::new(items(SourceItem::samples))),
        SourceKind::Random { seed } => Box::new(Random::new(*seed, items(SourceItem::samples))),
        SourceKind::Npy(paths) => {
            let cut = match &config.content {
                HeapContent::Npy(cut) => cut,
                HeapContent::Size(_) | HeapContent::Items(_) => &Cut::Axis,
            };
            Box::new(Files::npy(&own_files(config, paths)?, cut)?.repeat(times))
        }
        SourceKind::File(paths) => match paths.as_slice() {
            [path] if is_stream(path) => {
                if times != Some(1) {
                    return Err(Failure::Usage(format!(
                        "source.repeat (--repeat): {} is no file and is read once: drop it, or give \
                         a file",
                        path.display()
                    )));
                }
                keep_from_capture(config, std::slice::from_ref(path))?;
                let pipe = Pipe::open(path, stop).map_err(|error| {
                    Failure::Usage(format!("cannot open {}: {error}", path.display()))
                })?;
                return read(config, Reader::new(pipe, items(SourceItem::samples))?);
            }
            paths => Box::new(
                Files::raw(&own_files(config, paths)?, &items(SourceItem::bytes))?.repeat(times),
            ),
        },
        SourceKind::Stdin => {
            keep_from_capture(config, &["/dev/stdin".into()])?;
            let stdin = Pipe::stdin(stop)
                .map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
            return read(config, Reader::new(stdin, items(SourceItem::samples))?);
        }
    };
    pack(config, source)
}

/// Whether a capture would write over what it is made from.
fn keep_from_capture(config: &Config, paths: &[PathBuf]) -> Result<(), Failure> {
    let Some(capture) = &config.settings.backend.pcap else { return Ok(()) };
    let Ok(output) = Output::new(Path::new(capture), true) else { return Ok(()) };
    for path in paths {
        if fs::metadata(path).is_ok_and(|source| output.is(&source)) {
            let hint = format!("it is the source, {}, as well: name another file", path.display());
            return Err(SettingsError::unusable(keys::PCAP, capture, hint).into());
        }
    }
    Ok(())
}

/// Whether a path is of something that is read as it comes: a FIFO, a device.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device()
    })
}

/// Those of the files that are this sender's.
fn own_files(config: &Config, paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let files = files(paths)?;
    keep_from_capture(config, &files)?;
    let Some(rank) = config.settings.senders.share_of(ShareKind::Files) else { return Ok(files) };
    let (index, size) = (rank.index() as usize, rank.size() as usize);
    if files.len() < size {
        return Err(Failure::Usage(format!(
            "senders.share (--share): {size} senders share {}: give each one, or share heaps",
            plural(files.len() as u64, "file")
        )));
    }
    Ok(files.into_iter().skip(index).step_by(size).collect())
}

/// The files that paths or patterns name, those of each pattern in alphabetical order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let text = path.to_string_lossy();
        // A file that is there has that name, whatever characters are in it.
        if path.exists() || !text.contains(['*', '?', '[']) {
            files.push(path.clone());
            continue;
        }
        let wrong = |why: String| Failure::Usage(format!("source.kind (--source): {why}"));
        let found = glob::glob(&text)
            .map_err(|error| wrong(format!("`{text}` is not a pattern: {error}")))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(error.to_string()))?;
        if found.is_empty() {
            return Err(wrong(format!("no file has a name such as `{text}`")));
        }
        files.extend(found);
    }
    // Each stays open. What the kernel does not grant, opening a file will say.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    Ok(files)
}

/// What is read as it comes, packed if that is asked for.
fn read(config: &Config, reader: Reader) -> Result<Box<dyn Source>, Failure> {
    let Some(pack) = config.pack else { return Ok(Box::new(reader)) };
    let packed = PackedReader::new(reader, pack.format, pack.range.interval());
    Ok(Box::new(packed.map_err(cannot_pack)?))
}

/// Packs the source's samples, if that is asked for.
fn pack(config: &Config, source: Box<dyn Source>) -> Result<Box<dyn Source>, Failure> {
    let Some(pack) = config.pack else { return Ok(source) };
    let packed = Packed::new(source.as_ref(), pack.format, pack.range.interval());
    Ok(Box::new(packed.map_err(cannot_pack)?))
}

fn cannot_pack(error: SourceError) -> Failure {
    match error {
        SourceError::Unpackable { .. } => Failure::Usage(format!("source.pack (--pack): {error}")),
        SourceError::NoInterval { .. } => {
            Failure::Usage(format!("source.range (--range): {error}"))
        }
        error => error.into(),
    }
}
