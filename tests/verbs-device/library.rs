//! Where the software device is, for any test that includes this file by `#[path]`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, io};

/// A directory for `LD_LIBRARY_PATH`, with a `libibverbs.so.1` in it. The first call builds that.
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = scratch.parent().expect("a directory in the target directory");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "verbs-device", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "cargo build --package verbs-device: {built}");
        let directory = scratch.join("verbs-device");
        fs::create_dir_all(&directory).expect("a directory for the library");
        let library = target.join("debug/libverbs_device.so");
        match symlink(library, directory.join("libibverbs.so.1")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
            _ => directory,
        }
    })
}
