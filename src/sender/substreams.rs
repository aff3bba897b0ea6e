//! Which destinations take part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A handle on the substreams of a [`Sender`](super::Sender), one for each destination: switches them
/// off and on while others go on. Clones switch the same substreams, from any thread.
///
/// A switch takes effect with the next batch that is submitted. Of that batch, heaps for a substream
/// that is off are not posted, take no share of the rate, and fail with
/// [`SendError::Disabled`](crate::backend::SendError::Disabled); they keep their heap cnts, so that
/// those of the others are what they would have been.
#[derive(Clone, Debug)]
pub struct Substreams {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    disabled: Box<[AtomicBool]>,
    /// How many are off: all that a submit looks at while none is.
    count: AtomicU32,
}

impl Substreams {
    pub(super) fn new(flows: u32) -> Self {
        let disabled = (0..flows).map(|_| AtomicBool::new(false)).collect();
        Self { state: Arc::new(State { disabled, count: AtomicU32::new(0) }) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.state.disabled.len()
    }

    /// Never: a sender has a destination.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a substream takes part. False if there is no such substream.
    pub fn is_enabled(&self, substream: u32) -> bool {
        let disabled = self.state.disabled.get(substream as usize);
        disabled.is_some_and(|disabled| !disabled.load(Ordering::Relaxed))
    }

    /// Switches a substream on, and returns whether it was off. Without effect if there is none.
    pub fn enable(&self, substream: u32) -> bool {
        self.switch(substream, false)
    }

    /// Switches a substream off, and returns whether it was on. Without effect if there is none.
    pub fn disable(&self, substream: u32) -> bool {
        self.switch(substream, true)
    }

    fn switch(&self, substream: u32, disable: bool) -> bool {
        let Some(disabled) = self.state.disabled.get(substream as usize) else { return false };
        if disabled.swap(disable, Ordering::Relaxed) == disable {
            return false;
        }
        match disable {
            true => self.state.count.fetch_add(1, Ordering::Release),
            false => self.state.count.fetch_sub(1, Ordering::Release),
        };
        true
    }

    /// What is off now, by flow; `None` if all are on.
    pub(super) fn disabled(&self) -> Option<Box<[bool]>> {
        if self.state.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(self.state.disabled.iter().map(|it| it.load(Ordering::Relaxed)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_seen_by_all_clones_and_counted_once() {
        let substreams = Substreams::new(3);
        let clone = substreams.clone();
        assert_eq!(substreams.disabled(), None);
        assert!(clone.disable(1));
        assert!(!substreams.disable(1), "it is off already");
        assert_eq!(substreams.disabled().as_deref(), Some([false, true, false].as_slice()));
        assert!([0, 2].iter().all(|&it| clone.is_enabled(it)) && !clone.is_enabled(1));
        assert!(substreams.enable(1));
        assert!(!clone.enable(1), "it is on already");
        assert_eq!(clone.disabled(), None);
    }

    #[test]
    fn there_is_no_substream_beyond_the_last() {
        let substreams = Substreams::new(2);
        assert!(!substreams.disable(2) && !substreams.enable(2) && !substreams.is_enabled(2));
        assert_eq!((substreams.len(), substreams.disabled()), (2, None));
    }
}
