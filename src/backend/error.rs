//! What goes wrong on the way onto the wire.

use std::error;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::region::Truncated;

/// Why a packet did not go out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The packet is larger than what the route carries.
    #[error("a packet of {bytes} bytes exceeds the MTU of the route{}: send smaller packets, or say what MTU there is", mtu.map_or(String::new(), |mtu| format!(", {mtu} bytes with IP and UDP headers")))]
    TooLarge {
        /// Bytes of UDP payload.
        bytes: usize,
        /// The MTU, if known.
        mtu: Option<u32>,
    },
    /// The kernel refused.
    #[error("{call}: {}", io::Error::from_raw_os_error(*errno))]
    Os {
        /// Which call.
        call: &'static str,
        /// errno(3).
        errno: i32,
    },
    /// What else a backend has to say.
    #[error("{reason}")]
    Backend {
        /// Its name, as in [`Caps::name`](super::Caps::name).
        backend: &'static str,
        /// In its own words.
        reason: Arc<str>,
    },
    /// The file that the payload lies in has shrunk.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The batch belongs to a region that the backend was never given.
    #[error("the batch is of a region that is not registered here")]
    Unregistered,
    /// A fault that was asked for: see [`fault`](super::fault).
    #[error("injected fault")]
    Injected,
    /// The heap's substream was off: see [`Substreams`](crate::sender::Substreams).
    #[error("its substream is disabled")]
    Disabled,
    /// The sender was closed before the packet was done.
    #[error("the sender was closed first")]
    Closed,
}

impl SendError {
    /// An error of a backend's, in its own words.
    ///
    /// ```
    /// use doorbell::backend::SendError;
    ///
    /// let error = SendError::backend("mine", "the laser is off");
    /// assert_eq!(error.to_string(), "the laser is off");
    /// ```
    pub fn backend(backend: &'static str, reason: impl Into<Arc<str>>) -> Self {
        Self::Backend { backend, reason: reason.into() }
    }
}

/// Why a backend cannot be opened, or does not take a region.
#[derive(Debug, Error)]
#[error("{step} ({device}): {source}")]
pub struct OpenError {
    /// What was tried, as a phrase: `connect the socket`.
    pub step: &'static str,
    /// On what: a device, an interface, a destination, a file.
    pub device: String,
    /// What went wrong.
    pub source: Box<dyn error::Error + Send + Sync>,
}

impl OpenError {
    /// An error of `step` on `device`.
    pub fn new(
        step: &'static str,
        device: impl ToString,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self { step, device: device.to_string(), source: source.into() }
    }
}
