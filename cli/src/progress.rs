//! The progress bar: on a terminal, none elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::standard_error;

/// Shows how far a stream is.
pub struct Progress {
    bar: ProgressBar,
    heap_len: u64,
}

impl Progress {
    /// A bar over `heaps` heaps, or a counter if their number is not known.
    pub fn new(heaps: Option<u64>, heap_len: u64, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = standard_error::draw_target(shown, DRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(heaps.map(|heaps| heaps * heap_len), target);
        let template = match heaps {
            Some(_) => {
                "{bar:40.cyan/blue} {binary_bytes:>10} {binary_bytes_per_sec:>12}  {msg}  {eta} left"
            }
            None => "{spinner} {binary_bytes:>10} {binary_bytes_per_sec:>12}  {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar, heap_len }
    }

    /// Says how many heaps went out so far.
    pub fn sent(&self, heaps: u64) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} heaps", HumanCount(heaps)));
            self.bar.set_position(heaps * self.heap_len);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

const DRAWS_PER_SECOND: u8 = 10;
