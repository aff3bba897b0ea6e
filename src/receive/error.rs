//! Why a stream cannot be received.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;

use super::capture::CaptureError;
use crate::backend::SendError;

/// Why a stream cannot be received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The address cannot be had.
    #[error("cannot receive at {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The multicast group cannot be joined.
    #[error("cannot join the group {group}{}: {source}", on(.interface))]
    Join {
        /// The group.
        group: IpAddr,
        /// The interface asked for; `None` is the one that the routing table names.
        interface: Option<String>,
        /// What the kernel said.
        source: io::Error,
    },
    /// A capture file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CaptureError,
    },
    /// A socket failed.
    #[error("cannot receive: {0}")]
    Socket(#[source] io::Error),
    /// An RDMA device failed.
    #[error("cannot receive at {device}: {source}")]
    Device {
        /// The device.
        device: String,
        /// What it reports.
        source: SendError,
    },
}

fn on(interface: &Option<String>) -> String {
    match interface {
        Some(name) => format!(" on {name}"),
        None => " (name an interface that multicasts, or add a route for it)".into(),
    }
}
