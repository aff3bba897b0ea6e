//! The progress bar: on a terminal, none elsewhere.

use doorbell::receive::Window;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::standard_error;

/// Shows how far a stream has come.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `heaps` heaps, or a counter if their number is not known.
    pub fn new(heaps: Option<u64>, quiet: bool) -> Self {
        let target = standard_error::draw_target(!quiet, DRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(heaps, target);
        let template = match heaps {
            Some(_) => "{bar:40.cyan/blue} {human_pos:>8} heaps {per_sec:>10}  {msg}  {eta} left",
            None => "{spinner} {human_pos:>8} heaps {per_sec:>10}  {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Says what came so far.
    pub fn received(&self, window: &Window) {
        if !self.bar.is_hidden() {
            let (bytes, incomplete) = window.counts();
            let lost = match incomplete {
                0 => String::new(),
                heaps => format!(", {} incomplete", HumanCount(heaps)),
            };
            self.bar.set_message(format!("{}{lost}", HumanBytes(bytes)));
            self.bar.set_position(window.whole());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

const DRAWS_PER_SECOND: u8 = 10;
