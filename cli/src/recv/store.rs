//! Frames in files of numpy.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use doorbell::receive::Frame;
use doorbell::wire::NumpyHeader;
use thiserror::Error;

/// Why what was received cannot be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file cannot be created.
    #[error("cannot create {path}: {source}", path = path.display())]
    Create {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Where frames are kept: in one file, with an axis that counts them, or each in its own.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    place: Place,
    frames: u64,
    /// Element type and shape of the first frame, which all others must have.
    kind: Option<(String, Vec<u64>)>,
}

#[derive(Debug)]
enum Place {
    Stack(BufWriter<File>),
    Directory,
}

impl Store {
    /// One file, which is replaced.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn stack(path: &Path) -> Result<Self, StoreError> {
        let file = File::create(path)
            .map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
        Ok(Self::new(path, Place::Stack(BufWriter::with_capacity(BUFFER, file))))
    }

    /// A directory, with a file `frame-CNT.npy` for the frame of each heap.
    ///
    /// # Errors
    ///
    /// If there is no such directory, and it cannot be created.
    pub fn directory(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path)
            .map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
        Ok(Self::new(path, Place::Directory))
    }

    fn new(path: &Path, place: Place) -> Self {
        Self { path: path.to_owned(), place, frames: 0, kind: None }
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many frames were kept.
    pub fn frames(&self) -> u64 {
        self.frames
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
        let is_first = self.kind.is_none();
        let (descr, shape) =
            self.kind.get_or_insert_with(|| (frame.descr.clone(), frame.shape.clone()));
        let written = match &mut self.place {
            Place::Stack(_) if *descr != frame.descr || *shape != frame.shape => return Ok(false),
            Place::Stack(file) => {
                let head = if is_first { stack_head(descr, shape, 0) } else { Vec::new() };
                file.write_all(&head).and_then(|()| file.write_all(&frame.bytes))
            }
            Place::Directory => {
                let path = self.path.join(format!("frame-{cnt:08}.npy"));
                let head = head(&frame.descr, &frame.shape, None);
                File::create(path).and_then(|mut file| {
                    file.write_all(&head).and_then(|()| file.write_all(&frame.bytes))
                })
            }
        };
        written.map_err(|source| self.error(source))?;
        self.frames += 1;
        Ok(true)
    }

    /// Writes how many frames there are to the head of the file. A file without any is removed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        let Place::Stack(file) = &mut self.place else { return Ok(()) };
        let written = match &self.kind {
            Some((descr, shape)) => file
                .rewind()
                .and_then(|()| file.write_all(&stack_head(descr, shape, self.frames)))
                .and_then(|()| file.flush()),
            None => fs::remove_file(&self.path),
        };
        written.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::Write { path: self.path.clone(), source }
    }
}

/// The head of a file of `frames`, as long as for any other number.
fn stack_head(descr: &str, shape: &[u64], frames: u64) -> Vec<u8> {
    let stacked = |frames| [&[frames], shape].concat();
    let longest = head(descr, &stacked(u64::MAX), None).len();
    head(descr, &stacked(frames), Some(longest))
}

/// The head of a file, up to the first element: NEP 1, *A Simple File Format for NumPy Arrays*.
fn head(descr: &str, shape: &[u64], len: Option<usize>) -> Vec<u8> {
    let header = NumpyHeader { descr: descr.into(), fortran_order: false, shape: shape.to_vec() };
    let text = header.to_string();
    // Version 1.0 has two bytes for the length of the header, 2.0 has four.
    let long = text.len() + ALIGNMENT > usize::from(u16::MAX);
    let before = MAGIC.len() + if long { 6 } else { 4 };
    let len = len.unwrap_or((before + text.len() + 1).next_multiple_of(ALIGNMENT));
    let header_len = len - before;
    let mut head = MAGIC.to_vec();
    match long {
        true => head.extend([&[2, 0][..], &(header_len as u32).to_le_bytes()].concat()),
        false => head.extend([&[1, 0][..], &(header_len as u16).to_le_bytes()].concat()),
    }
    head.extend_from_slice(text.as_bytes());
    head.resize(len - 1, b' ');
    head.push(b'\n');
    head
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// What numpy aligns elements to, for those who map the file.
const ALIGNMENT: usize = 64;
/// Small frames are gathered; those that are larger go to the file as they are.
const BUFFER: usize = 1 << 20;
