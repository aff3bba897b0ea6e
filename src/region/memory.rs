//! Memory from the kernel: anonymous, on huge pages where there are any, or a mapped file.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::guard::Guard;
use super::mapped_bytes::MappedBytes;
use super::mapping::Mapping;
use crate::page::{HUGE_PAGE, page_size};

/// A mapping that stays where it is until it is dropped.
///
/// Held as a raw pointer: a `Box` or `Vec` asserts that its owner alone accesses the bytes, which is
/// false while a device reads them.
pub struct Memory {
    /// Before the mapping, to be dropped first.
    file: Option<MappedFile>,
    start: *mut u8,
    /// What keeps it where it is.
    _owner: Option<Box<dyn Any + Send + Sync>>,
    len: usize,
    pages: Pages,
}

// SAFETY: bytes of anonymous and of foreign memory are reached through batches alone, each of which is owned by one
// thread; those of files are read as `MappedBytes`, which copes with whoever writes them.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// The file behind a mapping.
struct MappedFile {
    path: PathBuf,
    file: File,
    guard: Guard,
}

/// What backs a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pages {
    /// Anonymous memory on pages of this many bytes.
    Anonymous(usize),
    /// Anonymous memory on reserved huge pages of this many bytes.
    Huge(usize),
    /// Anonymous memory on transparent huge pages of this many bytes, which the kernel may split again.
    Transparent(usize),
    /// A file, read-only.
    File,
    /// Memory that somebody else provides.
    Foreign,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous(size) => write!(f, "{} KiB pages", size >> 10),
            Self::Huge(size) => write!(f, "{} MiB huge pages", size >> 20),
            Self::Transparent(size) => write!(f, "transparent {} MiB huge pages", size >> 20),
            Self::File => f.write_str("a mapped file"),
            Self::Foreign => f.write_str("memory of the backend's"),
        }
    }
}

impl Memory {
    /// At least `len` bytes of zeros: on huge pages if enough of them are reserved, else on transparent
    /// ones if the kernel gives them (Linux's `Documentation/admin-guide/mm/transhuge.rst`), else on
    /// ordinary ones.
    ///
    /// # Errors
    ///
    /// If the kernel has no memory to give.
    pub fn anonymous(len: usize) -> Result<Self, MemoryError> {
        // Smaller mappings would waste most of a huge page, which are few.
        if len >= HUGE_PAGE / 2
            && let Some(huge_len) = len.checked_next_multiple_of(HUGE_PAGE)
        {
            if let Some(map) = Mapping::reserved_huge(huge_len) {
                return Ok(Self::from_map(map, huge_len, Pages::Huge(HUGE_PAGE)));
            }
            if let Some(map) = Mapping::transparent_huge(huge_len) {
                return Ok(Self::from_map(map, huge_len, Pages::Transparent(HUGE_PAGE)));
            }
        }
        let page = page_size();
        let error = |source| MemoryError::Allocate { len, source };
        let len = (len.max(1).checked_next_multiple_of(page))
            .ok_or_else(|| error(io::ErrorKind::OutOfMemory.into()))?;
        let map = Mapping::anonymous(len).map_err(error)?;
        Ok(Self::from_map(map, len, Pages::Anonymous(page)))
    }

    /// A whole file, mapped read-only.
    ///
    /// Should the file shrink, what is gone reads as zeros from then on, and [`Memory::check`] says so;
    /// the first mapping of a file installs a handler of SIGBUS for that.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or mapped, as pipes cannot.
    pub fn file(path: &Path) -> Result<Self, MemoryError> {
        let error = |source| MemoryError::Map { path: path.into(), source };
        let file = File::open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if metadata.is_dir() {
            return Err(error(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(error(io::Error::other("not a regular file")));
        }
        let len = usize::try_from(metadata.len())
            .map_err(|_| error(io::ErrorKind::FileTooLarge.into()))?;
        if len == 0 {
            // mmap(2) has no empty mappings.
            let start = std::ptr::dangling_mut();
            return Ok(Self { file: None, start, _owner: None, len, pages: Pages::File });
        }
        let map = Mapping::file(&file, len).map_err(error)?;
        let guard = Guard::new(map.as_mut_ptr(), len);
        let file = Some(MappedFile { path: path.into(), file, guard });
        Ok(Self { file, ..Self::from_map(map, len, Pages::File) })
    }

    /// `len` bytes from `start` on that `owner` keeps: for backends that have memory of their own, such as rings
    /// that the kernel shares.
    ///
    /// # Safety
    ///
    /// Until `owner` is dropped, the bytes can be read and written; nothing else in this process reaches them;
    /// and others that do, such as a device or the kernel, write only while a batch in them is posted, and only
    /// where the backend's own bytes are.
    pub unsafe fn foreign(start: *mut u8, len: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        Self { file: None, start, _owner: Some(owner), len, pages: Pages::Foreign }
    }

    fn from_map(map: Mapping, len: usize, pages: Pages) -> Self {
        let start = map.as_mut_ptr();
        Self { file: None, start, _owner: Some(Box::new(map)), len, pages }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, as in an empty file.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What backs the memory.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// The first byte; for registration with a device.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.cast_const()
    }

    /// The first byte; writing through it is undefined for a file.
    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }

    /// Whether the first `len` bytes are still those of the file, which takes an fstat(2). Memory that is
    /// no file stays what it is.
    ///
    /// # Errors
    ///
    /// If the file has shrunk, or had when its bytes were looked at, or a page of it cannot be read.
    pub fn check(&self, len: usize) -> Result<(), Truncated> {
        let Some(MappedFile { path, file, guard }) = &self.file else { return Ok(()) };
        let left = file.metadata().map_or(0, |metadata| metadata.len());
        let intact = guard.intact().min(usize::try_from(left).unwrap_or(usize::MAX));
        match len <= intact {
            true => Ok(()),
            false => Err(Truncated { path: path.clone(), left, len: self.len }),
        }
    }

    /// Some bytes of a mapped file; `None` if the mapping is no file, or ends before.
    pub fn file_bytes(&self, offset: usize, len: usize) -> Option<MappedBytes<'_>> {
        let end = offset.checked_add(len)?;
        // SAFETY: the mapping can be read as long as it is borrowed, and is watched over by a guard.
        let all = unsafe { MappedBytes::new(self.as_ptr(), self.len) };
        all.get(offset..end).filter(|_| self.pages == Pages::File)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("len", &self.len).field("pages", &self.pages).finish()
    }
}

/// A file that has shrunk since it was mapped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{} has shrunk from {len} to {left} bytes, or cannot be read, while it is sent: write a new file and \
     rename it instead",
    path.display()
)]
pub struct Truncated {
    /// The file.
    pub path: PathBuf,
    /// Bytes it has now.
    pub left: u64,
    /// Bytes it had.
    pub len: usize,
}

/// Why there is no memory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The kernel has none.
    #[error("cannot allocate {len} bytes: {source}")]
    Allocate {
        /// Bytes asked for.
        len: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file cannot be mapped.
    #[error("cannot map {}: {source}", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn anonymous_memory_is_whole_pages() {
        let memory = Memory::anonymous(5000).unwrap();
        assert_eq!(memory.len() % page_size(), 0);
        assert!(memory.len() >= 5000);
        assert_eq!(memory.pages(), Pages::Anonymous(page_size()));
        assert!(memory.file_bytes(0, 1).is_none());
        assert!(matches!(
            Memory::anonymous(usize::MAX),
            Err(MemoryError::Allocate { len: usize::MAX, .. })
        ));
    }

    #[test]
    fn large_memory_says_what_pages_it_is_on() {
        let memory = Memory::anonymous(3 << 20).unwrap();
        assert!(memory.len() >= 3 << 20);
        match memory.pages() {
            Pages::Huge(size) | Pages::Transparent(size) => {
                assert_eq!((size, memory.len()), (HUGE_PAGE, 2 * HUGE_PAGE));
                assert!(memory.as_ptr().addr().is_multiple_of(HUGE_PAGE));
            }
            pages => assert_eq!(pages, Pages::Anonymous(page_size())),
        }
    }

    #[test]
    fn a_file_is_read_within_its_bounds() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        assert!(Memory::file(file.path()).unwrap().is_empty());
        file.write_all(b"doorbell").unwrap();
        let memory = Memory::file(file.path()).unwrap();
        assert!(memory.file_bytes(4, 4).unwrap().equals(b"bell"));
        assert!(memory.file_bytes(4, 5).is_none());
        assert!(memory.file_bytes(usize::MAX, 2).is_none());
    }

    // Miri has no signals.
    #[cfg(not(miri))]
    #[test]
    fn what_a_shrunken_file_lacks_reads_as_zeros_and_is_missed() {
        let page = page_size();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; 5 * page]).unwrap();
        let other = Memory::file(file.path()).unwrap();
        let memory = Memory::file(file.path()).unwrap();
        assert_eq!(memory.check(5 * page), Ok(()));
        file.as_file().set_len(2 * page as u64 + 10).unwrap();
        assert_eq!(memory.check(2 * page + 10), Ok(()));
        let error = memory.check(2 * page + 11).unwrap_err();
        assert_eq!((error.left, error.len), (2 * page as u64 + 10, 5 * page));
        let mut expected = vec![7; 2 * page + 10];
        expected.resize(5 * page, 0);
        assert!(memory.file_bytes(0, 5 * page).unwrap().equals(&expected));
        // Zeros were seen: that the file grows again does not undo it.
        file.as_file().set_len(5 * page as u64).unwrap();
        assert_eq!(memory.check(3 * page), Ok(()));
        assert!(memory.check(3 * page + 1).is_err());
        assert_eq!(other.check(5 * page), Ok(()), "nobody has looked at it meanwhile");
    }

    #[test]
    fn what_cannot_be_mapped_is_named() {
        let error = Memory::file(Path::new("/nonexistent/samples.raw")).unwrap_err().to_string();
        assert!(error.starts_with("cannot map /nonexistent/samples.raw: "), "{error}");
        assert!(Memory::file(Path::new("/dev/null")).is_err());
    }
}
