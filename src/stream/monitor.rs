//! What looks at a stream from outside.

use std::sync::Arc;

use super::ledger::{Figures, Ledger};

/// Looks at a stream from any thread, at no cost to it.
#[derive(Clone)]
pub struct Monitor {
    pub(super) ledger: Arc<Ledger>,
}

impl Monitor {
    /// How it stands.
    pub fn figures(&self) -> Figures {
        self.ledger.figures()
    }
}
