//! Why heaps of a batch did not go out.

use crate::backend::SendError;

/// A heap of which at least one packet did not go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapFailure {
    /// Which heap of the batch.
    pub heap: u32,
    /// Its heap cnt.
    pub cnt: u64,
    /// Why the first packet that did not go out did not.
    pub error: SendError,
}

/// Why heaps of a batch did not go out, by heap: a batch that is lost as a whole costs no more for each of
/// its heaps than one that is lost in part.
#[derive(Debug)]
pub(super) struct Failures {
    heaps: u32,
    /// One for each heap once any has failed; none before.
    errors: Vec<Option<SendError>>,
}

impl Failures {
    /// None so far, of this many heaps.
    pub(super) fn new(heaps: u32) -> Self {
        Self { heaps, errors: Vec::new() }
    }

    /// Takes note of why a heap did not go out: of the first reason, if there are several.
    pub(super) fn add(&mut self, heap: u32, error: &SendError) {
        self.of(heap).get_or_insert_with(|| error.clone());
    }

    /// The heap failed for this reason, whatever there was before.
    pub(super) fn replace(&mut self, heap: u32, error: SendError) {
        *self.of(heap) = Some(error);
    }

    fn of(&mut self, heap: u32) -> &mut Option<SendError> {
        if self.errors.is_empty() {
            self.errors = vec![None; self.heaps as usize];
        }
        &mut self.errors[heap as usize]
    }

    /// The heaps that failed, in order, whose cnts `cnt` tells.
    pub(super) fn into_heaps(self, cnt: impl Fn(u32) -> u64) -> Vec<HeapFailure> {
        let failed = (0..).zip(self.errors).filter_map(|(heap, error)| {
            error.map(|error| HeapFailure { heap, cnt: cnt(heap), error })
        });
        failed.collect()
    }
}
