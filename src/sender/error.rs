//! Why a sender lays out no batches.

use thiserror::Error;

use crate::backend::OpenError;
use crate::region::RegionError;

/// Why there are no batches.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// The region cannot be laid out.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The backend refuses the region.
    #[error(transparent)]
    Register(#[from] OpenError),
    /// The backend has failed before.
    #[error("the backend has failed")]
    Failed,
    /// The plan has more destinations than the backend.
    #[error("the plan has {plan} flows, the backend was opened with {backend} destinations")]
    Flows {
        /// Flows of the plan.
        plan: u32,
        /// Destinations of the backend.
        backend: u32,
    },
}
