//! The last heaps that left a window.

use std::collections::{HashSet, VecDeque};

/// The last heaps that left the window, by position: their packets come too late, or twice.
#[derive(Debug)]
pub(super) struct Past {
    limit: usize,
    order: VecDeque<i128>,
    set: HashSet<i128>,
}

impl Past {
    pub(super) fn of(limit: usize) -> Self {
        Self { limit, order: VecDeque::new(), set: HashSet::new() }
    }

    pub(super) fn contains(&self, position: i128) -> bool {
        self.set.contains(&position)
    }

    pub(super) fn insert(&mut self, position: i128) {
        if self.order.len() == self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        if self.set.insert(position) {
            self.order.push_back(position);
        }
    }
}
