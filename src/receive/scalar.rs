//! Numbers as numpy stores them.

/// A plain number type of numpy: `<u2`, `>f4`, `|b1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    kind: NumberKind,
    /// Bytes: 1, 2, 4 or 8.
    size: usize,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberKind {
    Unsigned,
    Signed,
    Float,
    Boolean,
}

impl Scalar {
    /// From a `descr` with its quotes; `None` if that is no number type.
    pub(super) fn parse(descr: &str) -> Option<Self> {
        let text = descr.trim().trim_matches(['\'', '"']);
        let (big_endian, rest) = match text.split_at_checked(1)? {
            (">", rest) => (true, rest),
            ("<" | "|", rest) => (false, rest),
            ("=", rest) => (cfg!(target_endian = "big"), rest),
            _ => (cfg!(target_endian = "big"), text),
        };
        let (kind, size) = rest.split_at_checked(1)?;
        let size = size.parse().ok()?;
        let (kind, sizes) = match kind {
            "u" => (NumberKind::Unsigned, 1..=8),
            "i" => (NumberKind::Signed, 1..=8),
            "f" => (NumberKind::Float, 2..=8),
            "b" => (NumberKind::Boolean, 1..=1),
            _ => return None,
        };
        let known = sizes.contains(&size) && usize::is_power_of_two(size);
        known.then_some(Self { kind, size, big_endian })
    }

    /// Bytes of a number.
    pub(super) fn size(self) -> usize {
        self.size
    }

    /// Whether these are display values already: those of 8 bits and less are.
    pub(super) fn is_byte(self) -> bool {
        self.size == 1 && self.kind != NumberKind::Signed
    }

    /// The number in `bytes`, of which there are [`Scalar::size`]; to the nearest if it has too many
    /// digits.
    pub(super) fn value(self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        let len = self.size.min(bytes.len());
        word[8 - len..].copy_from_slice(&bytes[..len]);
        if !self.big_endian {
            word[8 - len..].reverse();
        }
        let word = u64::from_be_bytes(word);
        match (self.kind, self.size) {
            (NumberKind::Unsigned, _) => word as f64,
            (NumberKind::Boolean, _) => f64::from(u8::from(word != 0)),
            (NumberKind::Signed, size) => super::bits::sign_extended(word, 8 * size as u32) as f64,
            (NumberKind::Float, 8) => f64::from_bits(word),
            (NumberKind::Float, 4) => f64::from(f32::from_bits(word as u32)),
            (NumberKind::Float, _) => half(word as u16),
        }
    }
}

/// A number of IEEE 754's binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match i32::from(bits >> 10 & 0x1f) {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        let value = |descr: &str, bytes: &[u8]| Scalar::parse(descr).unwrap().value(bytes);
        assert_eq!(value("'<u2'", &[1, 2]), 513.0);
        assert_eq!(value("'>u2'", &[1, 2]), 258.0);
        assert_eq!(value("'|i1'", &[0xff]), -1.0);
        assert_eq!(value("'>i4'", &(-70_000_i32).to_be_bytes()), -70_000.0);
        assert_eq!(value("\"<f4\"", &1.5_f32.to_le_bytes()), 1.5);
        assert_eq!(value("'>f8'", &(-0.1_f64).to_be_bytes()), -0.1);
        assert_eq!(value("'|b1'", &[7]), 1.0);
        // numpy.float16: the smallest, the largest, and some between.
        let half = |bits: u16| value("'<f2'", &bits.to_le_bytes());
        assert_eq!([half(0x3c00), half(0xc000), half(0x7bff)], [1.0, -2.0, 65504.0]);
        assert_eq!([half(0x0001), half(0x0400)], [5.960_464_477_539_063e-8, 6.103_515_625e-5]);
        assert_eq!(half(0xfc00), f64::NEG_INFINITY);
        assert!(half(0x7e00).is_nan());
        for other in ["'<U3'", "'|S1'", "'<c8'", "'<f16'", "'<u3'", "''", "[('a', '<f4')]", "'é'"]
        {
            assert_eq!(Scalar::parse(other), None, "{other}");
        }
    }
}
