//! The progress bar: on a terminal, none elsewhere.

use doorbell::receive::Window;
use indicatif::{HumanBytes, HumanCount, ProgressBar};

use crate::plural;
use crate::progress::{bar, line, width};

/// Shows how far a stream has come.
pub struct RecvProgress {
    bar: ProgressBar,
    heaps: Option<u64>,
}

impl RecvProgress {
    /// A bar over `heaps` heaps, or a counter if their number is not known.
    pub fn new(heaps: Option<u64>, quiet: bool) -> Self {
        Self { bar: bar(!quiet), heaps }
    }

    /// Says what came so far.
    pub fn received(&self, window: &Window) {
        if !self.bar.is_hidden() {
            let (bytes, incomplete) = window.counts();
            let whole = window.whole();
            let lost = (incomplete > 0).then(|| format!("{} incomplete", HumanCount(incomplete)));
            let parts = [Some(plural(whole, "heap")), Some(HumanBytes(bytes).to_string()), lost];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            let share = self.heaps.map(|heaps| whole as f64 / heaps.max(1) as f64);
            self.bar.set_message(line(width(), share, &parts));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
