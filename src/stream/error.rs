//! Why there is no stream, or why it ended early.

use thiserror::Error;

use super::{HeapError, Report};
use crate::backend::{OpenError, SendError};
use crate::plan::PlanError;
use crate::region::{MemoryError, RegionError};
use crate::sender::{AllocateError, Panicked};
use crate::settings::{Settings, SettingsError, keys};

/// Why a stream cannot be opened. Nothing was sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Settings that cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A heap that cannot be sent.
    #[error(transparent)]
    Heap(#[from] HeapError),
    /// Heaps that cannot be cut into packets.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No way onto the wire, or a thread or descriptor that cannot be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backend refuses a setting.
    #[error(transparent)]
    Send(#[from] SendError),
    /// There is no memory, or the backend does not take it.
    #[error(transparent)]
    Allocate(#[from] AllocateError),
}

impl StreamError {
    /// There is less memory than settings ask for.
    pub(super) fn of_memory(error: AllocateError, settings: &Settings) -> Self {
        let memory = match &error {
            AllocateError::Register(open) => open.source.downcast_ref(),
            AllocateError::Region(RegionError::Memory(memory)) => Some(memory),
            _ => None,
        };
        match memory {
            Some(memory @ MemoryError::Allocate { .. }) => {
                let hint = format!("{memory}; lower it, or {}", keys::BATCH_HEAPS);
                SettingsError::unusable(keys::IN_FLIGHT, settings.batch.in_flight, hint).into()
            }
            _ => error.into(),
        }
    }
}

/// Why a stream ended before its end. What it did until then is in the report.
#[derive(Debug, Error)]
#[error("the stream ended early: {reason}")]
pub struct Broken {
    /// Why.
    pub reason: BrokenReason,
    /// What became of it.
    pub report: Box<Report>,
}

/// See [`Broken`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BrokenReason {
    /// The backend failed for good.
    #[error(transparent)]
    Failed(SendError),
    /// The thread that posts panicked, which is a defect; heaps in flight count as failed.
    #[error(transparent)]
    Panicked(Panicked),
}
