//! Figures as people read them: one unit for rates, and times in what is not all zeros.

/// A time: `1.299 s`, `12.3 ms`, `45 us`.
pub fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.3} s"),
        1e-3.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} us", seconds * 1e6),
    }
}

/// A rate, always in gigabits a second, so that all compare: `12.3 Gb/s`, `0.00123 Gb/s`.
pub fn rate(gbit_per_s: f64) -> String {
    // Three digits that say something, but no more than bits a second are.
    let magnitude = gbit_per_s.abs().max(1e-9).log10().floor() as i32;
    let decimals = (2 - magnitude).clamp(if magnitude < 3 { 1 } else { 0 }, 9) as usize;
    format!("{gbit_per_s:.decimals$} Gb/s")
}

/// The rate of so many bytes in so many seconds, unless that is too short a time to have one.
pub fn rate_over(bytes: u64, seconds: f64) -> Option<String> {
    (seconds >= SHORTEST).then(|| rate(bytes as f64 * 8e-9 / seconds))
}

/// What is left, roughly: `12 s`, `3 min`, `5 h`.
pub fn rough_time(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", (seconds / 3600.0).min(9999.0)),
    }
}

/// Seconds: within less, a batch goes to the kernel, and nothing yet shows how fast more of them would.
const SHORTEST: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_not_all_zeros() {
        let shown = [0.0, 4.5e-5, 9.994e-4, 0.0123, 0.9994, 1.2994, 600.0].map(time);
        let expected = ["0 us", "45 us", "999 us", "12.3 ms", "999.4 ms", "1.299 s", "600.000 s"];
        assert_eq!(shown, expected);
        assert_eq!(
            [0.4, 119.0, 600.0, 1e5, 1e300].map(rough_time),
            ["0 s", "119 s", "10 min", "28 h", "9999 h"]
        );
    }

    #[test]
    fn rates_have_one_unit_and_three_digits() {
        let shown = [1234.5, 98.76, 6.4567, 0.1, 1.5e-5, 1e-9, 0.0].map(rate);
        let expected = [
            "1234 Gb/s",
            "98.8 Gb/s",
            "6.46 Gb/s",
            "0.100 Gb/s",
            "0.0000150 Gb/s",
            "0.000000001 Gb/s",
            "0.000000000 Gb/s",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn too_short_a_time_has_no_rate() {
        assert_eq!(rate_over(1 << 20, 0.0), None);
        assert_eq!(rate_over(1 << 20, 1e-4), None);
        assert_eq!(rate_over(125_000_000, 1.0).unwrap(), "1.00 Gb/s");
    }
}
