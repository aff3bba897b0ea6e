//! Frames in files of numpy.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use doorbell::output::{Output, OutputError};
use doorbell::receive::Frame;
use nix::unistd::dup2_stdout;
use thiserror::Error;

use super::npy::head;
use super::stack::Stack;
use crate::output::{Unwritable, output, unwritable};

/// Why what was received cannot be kept.
#[derive(Debug, Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

/// Where frames are kept: in one file, with an axis that counts them, each in a file of its own, or one after
/// the other in a pipe.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    destination: Destination,
    /// Those outside of a stack, which counts its own.
    frames: u64,
    /// Element type and shape of the first frame, which all others of a stack must have.
    kind: Option<(String, Vec<u64>)>,
}

#[derive(Debug)]
enum Destination {
    Stack(Stack),
    Directory(Directory),
    Pipe(File),
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    replaced: bool,
    /// How often a heap of that cnt came: senders may start again.
    turns: HashMap<u64, u64>,
}

impl Store {
    /// One file for all frames, or a pipe or a device, to which they go one after the other, each as a file of
    /// its own; `-` is standard output, and all that the program says goes to standard error then.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or is a file that is not to be replaced.
    pub fn stack(path: &Path, force: bool) -> Result<Self, Unwritable> {
        if path == Path::new("-") {
            let pipe = standard_output().map_err(|error| unwritable(WRITE, path, error))?;
            return Ok(Self::new(path, Destination::Pipe(pipe)));
        }
        let output = output(WRITE, path, &["npy"], force)?;
        Ok(Self::new(
            path,
            match output.is_stream() {
                true => Destination::Pipe(
                    output.create().map_err(|error| unwritable(WRITE, path, error))?,
                ),
                false => Destination::Stack(Stack::new(output)),
            },
        ))
    }

    /// A directory, with a file `frame-CNT.npy` for the frame of each heap.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or has such files already, which are not to be replaced.
    pub fn directory(path: &Path, force: bool) -> Result<Self, Unwritable> {
        check_directory(path, force).map_err(|reason| unwritable(WRITE_DIR, path, reason))?;
        let directory = Directory { path: path.to_owned(), replaced: force, turns: HashMap::new() };
        Ok(Self::new(path, Destination::Directory(directory)))
    }

    fn new(path: &Path, destination: Destination) -> Self {
        Self { path: path.to_owned(), destination, frames: 0, kind: None }
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many frames were kept.
    pub fn frames(&self) -> u64 {
        match &self.destination {
            Destination::Stack(stack) => stack.frames(),
            Destination::Directory(_) | Destination::Pipe(_) => self.frames,
        }
    }

    /// Element type and shape of the frames, once there is one.
    pub fn kind(&self) -> Option<(&str, &[u64])> {
        self.kind.as_ref().map(|(descr, shape)| (descr.as_str(), shape.as_slice()))
    }

    /// Keeps the frame of heap `cnt`. False if its type or shape is not that of the first, and it
    /// would not fit into one array with it.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn add(&mut self, cnt: u64, frame: &Frame) -> Result<bool, StoreError> {
        let (descr, shape) =
            self.kind.get_or_insert_with(|| (frame.descr.clone(), frame.shape.clone()));
        let written = match &mut self.destination {
            Destination::Stack(_) if *descr != frame.descr || *shape != frame.shape => {
                return Ok(false);
            }
            Destination::Stack(stack) => stack.add(frame),
            Destination::Directory(directory) => directory.add(cnt, &whole(frame)),
            Destination::Pipe(pipe) => pipe.write_all(&whole(frame)),
        };
        written.map_err(|source| self.error(source))?;
        self.frames += 1;
        Ok(true)
    }

    /// How long [`Store::update`] may wait, if there is anything to bring up to date.
    pub fn patience(&self) -> Option<Duration> {
        match &self.destination {
            Destination::Stack(stack) => {
                stack.due().map(|due| due.saturating_duration_since(Instant::now()))
            }
            Destination::Directory(_) | Destination::Pipe(_) => None,
        }
    }

    /// Has the file say how many frames there are, and hold them.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn update(&mut self) -> Result<(), StoreError> {
        match &mut self.destination {
            Destination::Stack(stack) => stack.update().map_err(|source| self.error(source)),
            Destination::Directory(_) | Destination::Pipe(_) => Ok(()),
        }
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError { path: self.path.clone(), source }
    }
}

impl Directory {
    fn add(&mut self, cnt: u64, file: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let turn = self.turns.entry(cnt).or_insert(0);
        loop {
            *turn += 1;
            let path = self.path.join(frame_name(cnt, *turn));
            let written = match Output::new(&path, self.replaced) {
                Ok(output) => output.write(file),
                Err(OutputError::Exists) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(OutputError::Io(error)) => Err(error),
                Err(other) => Err(io::Error::other(other)),
            };
            // Somebody else's, since the directory was looked at.
            if !written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                return written;
            }
        }
    }
}

/// A heap's file, whose cnt may come again.
fn frame_name(cnt: u64, turn: u64) -> String {
    match turn {
        1 => format!("{FRAME}{cnt:08}.npy"),
        _ => format!("{FRAME}{cnt:08}-{turn}.npy"),
    }
}

/// Whether frames can be put into a directory, which may be yet to be made.
fn check_directory(path: &Path, force: bool) -> Result<(), OutputError> {
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                if !force && name.starts_with(FRAME) && name.ends_with(".npy") {
                    return Err(OutputError::Exists);
                }
            }
            Output::new(&path.join(FRAME), true).map(drop)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_there = |it: &&Path| fs::symlink_metadata(it).is_ok();
            let above = path.ancestors().skip(1).find(is_there).unwrap_or(Path::new("."));
            // The directory is made with the first frame, as a file would be.
            Output::new(&above.join(FRAME), true).map(drop)
        }
        Err(error) => Err(error.into()),
    }
}

/// A frame as a file of its own.
fn whole(frame: &Frame) -> Vec<u8> {
    let mut file = head(&frame.descr, &frame.shape);
    file.extend_from_slice(&frame.bytes);
    file
}

/// Standard output for frames alone.
fn standard_output() -> io::Result<File> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(io::Error::other("standard output is a terminal, which shows no frames"));
    }
    let pipe = stdout.as_fd().try_clone_to_owned()?;
    dup2_stdout(io::stderr())?;
    Ok(pipe.into())
}

const WRITE: &str = "--write";
const WRITE_DIR: &str = "--write-dir";
const FRAME: &str = "frame-";
