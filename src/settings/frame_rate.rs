//! How fast frames are sent.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;
use crate::pacer::FramePacer;

/// Frames a second, exactly: `60`, `29.97`, or a fraction, `30000/1001`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRate {
    text: String,
    frames: u64,
    seconds: u64,
}

impl FrameRate {
    /// What says when frames are due.
    pub fn pacer(&self) -> FramePacer {
        FramePacer::new(self.frames, self.seconds)
    }

    fn parse(text: &str) -> Option<(u64, u64)> {
        let digits = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok())?
        };
        let (frames, seconds) = match text.split_once('/') {
            Some((frames, seconds)) => (digits(frames)?, digits(seconds)?),
            None => {
                let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
                let scale = 10_u64.checked_pow(u32::try_from(decimals.len()).ok()?)?;
                (digits(&format!("{whole}{decimals}"))?, scale)
            }
        };
        // Nobody waits longer than a day for a frame, and none is sent in less than a nanosecond.
        let sane = frames > 0
            && seconds > 0
            && frames.checked_mul(86_400)? >= seconds
            && frames / seconds <= 1_000_000_000;
        sane.then_some((frames, seconds))
    }
}

impl FromStr for FrameRate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hint = "write frames a second, 60 or 29.97, or a fraction, 30000/1001";
        let (frames, seconds) =
            Self::parse(text).ok_or_else(|| InvalidValue::new(text, "a frame rate", hint))?;
        Ok(Self { text: text.to_owned(), frames, seconds })
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_exact_and_mistakes_are_named() {
        let rate =
            |text: &str| text.parse().map(|FrameRate { frames, seconds, .. }| (frames, seconds));
        assert_eq!(rate("60"), Ok((60, 1)));
        assert_eq!(rate("29.97"), Ok((2997, 100)));
        assert_eq!(rate("30000/1001"), Ok((30000, 1001)));
        assert_eq!(rate("0.5"), Ok((5, 10)));
        for wrong in
            ["", "0", "-1", "x", "1/0", "0/1", "1e3", "1/2/3", ".", "60Hz", "0.00000001", "+1"]
        {
            let message = rate(wrong).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{wrong}` is not a frame rate: write")));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, near in r"[0-9]{0,25}[./]?[0-9]{0,25}") {
            for text in [text, near] {
                if let Ok(rate) = text.parse::<FrameRate>() {
                    let _ = rate.pacer().due(u64::MAX);
                    prop_assert_eq!(rate.to_string(), text);
                }
            }
        }
    }
}
