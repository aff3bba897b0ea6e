//! The progress bar: one line on a terminal, none elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use console::Term;
use doorbell::stream::Monitor;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{plural, quantity, standard_error};

/// Shows how far a stream is: what went out, not what was submitted.
pub struct Progress {
    bar: ProgressBar,
    /// What draws it, and ends once nothing holds the channel.
    drawing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// A bar over `heaps` heaps, or a counter if their number is not known.
    pub fn new(heaps: Option<u64>, heap_len: u64, quiet: bool, stream: Monitor) -> Self {
        let bar = bar(!quiet);
        if quiet || !std::io::stderr().is_terminal() {
            return Self { bar, drawing: None };
        }
        let (end, ended) = channel();
        let shown = bar.clone();
        let draw = move || {
            let mut pace = Pace::default();
            while ended.recv_timeout(BETWEEN_DRAWS) == Err(RecvTimeoutError::Timeout) {
                let figures = stream.figures();
                let rate = pace.bytes_per_second(Instant::now(), figures.payload_bytes);
                let sent = Sent { bytes: figures.payload_bytes, heaps, heap_len, rate };
                shown.set_message(line(width(), sent.share(), &sent.parts()));
            }
        };
        // Without a thread there is no bar.
        let thread = thread::Builder::new().name("progress".into()).spawn(draw).ok();
        Self { bar, drawing: thread.map(|thread| (end, thread)) }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some((end, thread)) = self.drawing.take() {
            drop(end);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

/// A bar that is its message, in one line.
pub fn bar(is_shown: bool) -> ProgressBar {
    let target = standard_error::draw_target(is_shown, DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(None, target);
    match ProgressStyle::with_template("{msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Columns of the terminal. The last is left free: some go on in the next line once it is taken.
pub fn width() -> usize {
    let columns = Term::stderr().size_checked().map_or(USUAL_WIDTH, |(_, columns)| columns);
    usize::from(columns).saturating_sub(1)
}

/// As many of the parts as fit, from the first on, and in front a bar in the room that they leave.
pub fn line(width: usize, share: Option<f64>, parts: &[String]) -> String {
    let mut text = String::new();
    for part in parts {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.len() + gap.len() + part.len() > width {
            break;
        }
        text = text + gap + part;
    }
    let room = width.saturating_sub(text.len() + 2).min(LONGEST_BAR);
    match share.filter(|_| room >= SHORTEST_BAR) {
        Some(share) => {
            let full = (share.clamp(0.0, 1.0) * room as f64) as usize;
            format!("{}{}  {text}", "█".repeat(full), "░".repeat(room - full))
        }
        None => text,
    }
}

struct Sent {
    bytes: u64,
    heaps: Option<u64>,
    heap_len: u64,
    rate: Option<f64>,
}

impl Sent {
    fn total(&self) -> Option<u64> {
        self.heaps.map(|heaps| heaps.saturating_mul(self.heap_len))
    }

    fn share(&self) -> Option<f64> {
        self.total().map(|total| self.bytes as f64 / total.max(1) as f64)
    }

    fn parts(&self) -> Vec<String> {
        let rate = self.rate.map(|rate| quantity::rate(rate * 8e-9));
        let left = self.total().zip(self.rate.filter(|rate| *rate > 0.0)).map(|(total, rate)| {
            let seconds = total.saturating_sub(self.bytes) as f64 / rate;
            format!("{} left", quantity::rough_time(seconds))
        });
        let heaps = plural(self.bytes / self.heap_len.max(1), "heap");
        let bytes = HumanBytes(self.bytes).to_string();
        [Some(bytes), rate, left, Some(heaps)].into_iter().flatten().collect()
    }
}

/// How fast it goes of late.
#[derive(Default)]
struct Pace {
    /// When there were how many bytes, the oldest first.
    looks: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// None before there is enough to tell.
    fn bytes_per_second(&mut self, now: Instant, bytes: u64) -> Option<f64> {
        self.looks.push_back((now, bytes));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let (since, before) = self.looks[0];
        let span = now.duration_since(since);
        (span >= SHORTEST_SPAN).then(|| bytes.saturating_sub(before) as f64 / span.as_secs_f64())
    }
}

const DRAWS_PER_SECOND: u8 = 10;
const BETWEEN_DRAWS: Duration = Duration::from_millis(100);
/// Looks that the rate is taken from: those of two seconds.
const LOOKS: usize = 20;
/// Three looks: what is between two may be a single batch, or none.
const SHORTEST_SPAN: Duration = Duration::from_millis(250);
const LONGEST_BAR: usize = 40;
const SHORTEST_BAR: usize = 8;
const USUAL_WIDTH: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_no_wider_than_the_terminal() {
        for heaps in [None, Some(10), Some(u64::MAX)] {
            for bytes in [0, 8192, 81_920, u64::MAX] {
                let sent = Sent { bytes, heaps, heap_len: 8192, rate: Some(1e9) };
                for width in 0..200 {
                    let line = line(width, sent.share(), &sent.parts());
                    assert!(line.chars().count() <= width, "{width}: {line}");
                    assert!(width < 100 || line.contains("heap"), "{line}");
                }
            }
        }
        let parts = ["512 MiB", "3.31 Gb/s", "9 s left"].map(String::from);
        assert_eq!(line(40, Some(0.5), &parts), "█████░░░░░  512 MiB  3.31 Gb/s  9 s left");
        assert_eq!(line(36, Some(0.5), &parts), "512 MiB  3.31 Gb/s  9 s left");
        assert_eq!(line(20, Some(0.5), &parts), "512 MiB  3.31 Gb/s");
    }

    #[test]
    fn a_rate_takes_a_while() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut look =
            |millis, bytes| pace.bytes_per_second(start + Duration::from_millis(millis), bytes);
        assert_eq!((look(0, 0), look(100, 1 << 30)), (None, None));
        assert_eq!(look(500, 1 << 30), Some(f64::from(1_u32 << 31)));
        assert_eq!(look(1000, 1 << 30), Some(f64::from(1_u32 << 30)));
    }
}
