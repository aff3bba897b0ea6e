//! Why the program ends early, and with which code.

use std::io;
use std::process::ExitCode;

use crate::config::{ConfigError, with_flags};
use crate::source::SourceError;
use doorbell::backend::{OpenError, SendError};
use doorbell::receive::ReceiveError;
use doorbell::sender::AllocateError;
use doorbell::settings::SettingsError;
use doorbell::stream::StreamError;
use thiserror::Error;

use super::output::Unwritable;
use super::recv::StoreError;

/// Why the program ends before it has sent the stream.
#[derive(Debug, Error)]
pub enum Failure {
    /// Wrong use, said in words.
    #[error("{0}")]
    Usage(String),
    /// Wrong configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A stream that cannot be planned or opened.
    #[error("{}", with_flags(&.0.to_string()))]
    Stream(#[from] StreamError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The backend cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The receiver on loopback cannot be opened.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// What was received cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that is to be written cannot be.
    #[error(transparent)]
    Output(#[from] Unwritable),
    /// What was received could not be kept before the user had enough.
    #[error("what has come was not written out in time, and files of it may lack some")]
    Unwritten,
    /// Figures cannot be served.
    #[error("monitor.metrics (--metrics): cannot serve at {address}: {reason}")]
    Metrics {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread `{name}`: {error}")]
    Thread {
        /// What it is called.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The backend refuses a setting.
    #[error(transparent)]
    Send(#[from] SendError),
    /// There is no memory, or the backend does not take it.
    #[error(transparent)]
    Allocate(#[from] AllocateError),
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Config(error.into())
    }
}

impl Failure {
    /// What went wrong, and what helps where the system had no more to give.
    pub fn words(&self) -> String {
        let said = self.to_string();
        let cure = CURES.iter().find(|(words, _)| said.contains(words));
        match cure {
            Some((_, cure)) => format!("{said}: {cure}"),
            None => said,
        }
    }

    /// The code that the program exits with.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Source(SourceError::Truncated(_)) => HEAPS_FAILED,
            Self::Stream(
                StreamError::Settings(_) | StreamError::Heap(_) | StreamError::Plan(_),
            )
            | Self::Usage(_)
            | Self::Config(_)
            | Self::Source(_)
            | Self::Output(Unwritable::Exists { .. } | Unwritable::Suffix { .. })
            | Self::Metrics { .. } => USAGE,
            Self::Stream(_)
            | Self::Thread { .. }
            | Self::Open(_)
            | Self::Receive(_)
            | Self::Store(_)
            | Self::Unwritten
            | Self::Output(_)
            | Self::Send(_)
            | Self::Allocate(_) => BACKEND,
        })
    }
}

/// What the kernel says when a limit is reached (errno(3)), and which that is: getrlimit(2), cgroups(7).
const CURES: [(&str, &str); 4] = [
    ("Too many open files in system", "raise fs.file-max (sysctl), of the whole system"),
    ("Too many open files", "raise the limit of descriptors, RLIMIT_NOFILE (ulimit -n)"),
    ("Resource temporarily unavailable", MORE_THREADS),
    ("EAGAIN", MORE_THREADS),
];
const MORE_THREADS: &str = "raise the limit of processes and threads, RLIMIT_NPROC (ulimit -u), or pids.max of the \
     control group, as of a container";
/// Some heaps failed.
pub const HEAPS_FAILED: u8 = 1;
/// What was asked for could not be printed.
pub const OUTPUT_LOST: u8 = 1;
/// 128 and the number of SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;
const USAGE: u8 = 2;
const BACKEND: u8 = 3;
