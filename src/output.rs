//! A file to write that never costs another one.
//!
//! What exists is kept unless it may be replaced, and nothing is created before there is something to
//! write. Symbolic links are followed; pipes and devices are written through. None of them is ever removed.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::unistd::{AccessFlags, access};
use thiserror::Error;

/// Where something is to be written.
#[derive(Clone, Debug)]
pub struct Output {
    /// As it was named.
    path: PathBuf,
    /// Where symbolic links lead.
    target: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A file that is not there yet.
    New,
    /// A file that may be replaced.
    Replaced,
    /// A pipe or a device.
    Stream,
}

/// Why something cannot be written there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file exists, and is not to be replaced.
    #[error("it exists, and is kept")]
    Exists,
    /// The kernel says why.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Output {
    /// Finds out whether `path` can be written; if it is a file already, only if it may be `replaced`.
    /// Creates nothing.
    ///
    /// # Errors
    ///
    /// If it is a file that is to be kept, or a directory; if there is no directory that it could be in, or
    /// none that may be written.
    pub fn new(path: &Path, replaced: bool) -> Result<Self, OutputError> {
        let output = |target, kind| Self { path: path.to_owned(), target, kind };
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory).into()),
            Ok(found) if !found.is_file() => Ok(output(path.to_owned(), Kind::Stream)),
            Ok(_) if !replaced => Err(OutputError::Exists),
            Ok(_) => {
                let target = fs::canonicalize(path)?;
                writable(directory(&target))?;
                Ok(output(target, Kind::Replaced))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let target = followed(path)?;
                writable(directory(&target))?;
                Ok(output(target, if replaced { Kind::Replaced } else { Kind::New }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a pipe or a device: what is written cannot be changed any more.
    pub fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }

    /// Whether its name is that of such a file: it ends in one of `suffixes`, or in none at all. A pipe or a
    /// device may have any.
    pub fn is_named(&self, suffixes: &[&str]) -> bool {
        let is_one = |suffix: &OsStr| suffixes.iter().any(|it| suffix.eq_ignore_ascii_case(it));
        self.is_stream() || self.path.extension().is_none_or(is_one)
    }

    /// Whether writing this would change what is read from a file or a pipe.
    pub fn is(&self, source: &fs::Metadata) -> bool {
        let identity = |it: &fs::Metadata| (it.dev(), it.ino());
        // What goes into a device does not come out of it again.
        let is_kept = !source.file_type().is_char_device();
        is_kept && fs::metadata(&self.path).is_ok_and(|it| identity(&it) == identity(source))
    }

    /// Opens what is to grow under its own name.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it: somebody may have made a file of that name meanwhile.
    pub fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true);
        match self.kind {
            Kind::Stream => options.open(&self.target),
            Kind::New => options.create_new(true).open(&self.target),
            Kind::Replaced => match fs::remove_file(&self.target) {
                // Whoever reads the old file goes on reading it, and its other names keep it.
                Ok(()) => options.create_new(true).open(&self.target),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    options.create_new(true).open(&self.target)
                }
                // A mount point cannot be removed.
                Err(_) => options.truncate(true).open(&self.target),
            },
        }
    }

    /// Removes what [`Output::create`] made, where nothing came of it.
    pub fn discard(&self) {
        if !self.is_stream() {
            // If it cannot be removed, it stays.
            let _ = fs::remove_file(&self.target);
        }
    }

    /// Writes all of it at once: under its name there is never a part of it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it; [`io::ErrorKind::AlreadyExists`] if there is a file that is to be kept.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.kind == Kind::Stream {
            return self.create()?.write_all(bytes);
        }
        let (temporary, mut file) = temporary_in(directory(&self.target))?;
        let written = file.write_all(bytes).and_then(|()| match self.kind {
            Kind::New => named(&temporary, &self.target),
            Kind::Replaced | Kind::Stream => fs::rename(&temporary, &self.target),
        });
        // After rename(2) it is gone already.
        let _ = fs::remove_file(&temporary);
        written
    }
}

/// Where a symbolic link leads whose end does not exist.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = directory(&target).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(nix::errno::Errno::ELOOP.into())
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Whether files can be made in a directory.
fn writable(directory: &Path) -> io::Result<()> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// A new file under a name that nobody looks for.
fn temporary_in(directory: &Path) -> io::Result<(PathBuf, File)> {
    let mut last = io::ErrorKind::AlreadyExists.into();
    // A program with this process id may have been killed before.
    for attempt in 0..MAX_ATTEMPTS {
        let path = directory.join(format!(".doorbell-{}-{attempt}", process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Gives a file a name that must be free, which rename(2) would not heed.
fn named(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // Some file systems have no links.
            match fs::symlink_metadata(name) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => fs::rename(file, name),
            }
        }
        linked => linked,
    }
}

/// What the kernel follows: path_resolution(7).
const MAX_LINKS: usize = 40;
const MAX_ATTEMPTS: usize = 100;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn is_kept(path: &Path) -> bool {
        matches!(Output::new(path, false), Err(OutputError::Exists))
    }

    /// All names in a directory, in order.
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_created_until_something_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let (grown, whole) =
            (Output::new(&path, false).unwrap(), Output::new(&path, true).unwrap());
        assert!(names(directory.path()).is_empty());
        grown.create().unwrap().write_all(b"1").unwrap();
        assert!(is_kept(&path));
        // Found free, and taken since.
        assert_eq!(grown.create().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(grown.write(b"2").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"1");
        whole.write(b"3").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(names(directory.path()), ["a"], "no temporary file is left");
    }

    #[test]
    fn what_is_replaced_stays_whole_for_those_who_have_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&path, "old").unwrap();
        fs::hard_link(&path, &other).unwrap();
        for write in [|it: &Output| it.write(b"new"), |it: &Output| it.create()?.write_all(b"more")]
        {
            write(&Output::new(&path, true).unwrap()).unwrap();
            assert_eq!(fs::read(&other).unwrap(), b"old");
        }
        assert_eq!(fs::read(&path).unwrap(), b"more");
    }

    #[test]
    fn links_are_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        for (name, write) in [
            ("whole", (|it: &Output| it.write(b"new")) as fn(&Output) -> io::Result<()>),
            ("grown", |it: &Output| it.create()?.write_all(b"new")),
        ] {
            // Through one link that another leads to, to a file that is yet to be.
            symlink(format!("deep/{name}-link"), at(name)).unwrap();
            symlink(format!("{name}-file"), at("deep").join(format!("{name}-link"))).unwrap();
            let file = at("deep").join(format!("{name}-file"));
            for (before, replaced) in [(None, false), (Some("old"), true)] {
                if let Some(before) = before {
                    fs::write(&file, before).unwrap();
                    assert!(is_kept(&at(name)));
                }
                write(&Output::new(&at(name), replaced).unwrap()).unwrap();
                assert_eq!(fs::read(&file).unwrap(), b"new");
                assert!(fs::symlink_metadata(at(name)).unwrap().is_symlink());
            }
        }
        symlink("circle", at("circle")).unwrap();
        assert!(Output::new(&at("circle"), true).is_err());
    }

    #[test]
    fn a_pipe_stays_a_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        for replaced in [false, true] {
            let output = Output::new(&path, replaced).unwrap();
            assert!(output.is_stream());
            let from = path.clone();
            let reader = std::thread::spawn(move || fs::read(from).unwrap());
            output.write(b"through").unwrap();
            assert_eq!(reader.join().unwrap(), b"through");
            assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        }
        assert_eq!(names(directory.path()), ["pipe"]);
    }

    #[test]
    fn a_source_is_known_by_whatever_name() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a"), "source").unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        symlink("a", at("c")).unwrap();
        fs::write(at("d"), "source").unwrap();
        let source = fs::metadata(at("a")).unwrap();
        for (name, is_source) in [("a", true), ("b", true), ("c", true), ("d", false), ("e", false)]
        {
            assert_eq!(Output::new(&at(name), true).unwrap().is(&source), is_source, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let error = |path: &Path| Output::new(path, true).unwrap_err().to_string();
        assert!(error(&at("no/a")).contains("No such file or directory"));
        assert!(error(directory.path()).contains("is a directory"));
        fs::write(at("file"), "").unwrap();
        assert!(error(&at("file/a")).contains("Not a directory"));
        for (name, is_named) in [("a.npy", true), ("a.NPY", true), ("a", true), ("a.png", false)] {
            assert_eq!(
                Output::new(&at(name), false).unwrap().is_named(&["npy"]),
                is_named,
                "{name}"
            );
        }
    }
}
