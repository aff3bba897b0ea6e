//! The Internet checksum of IPv4 headers and UDP datagrams.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running Internet checksum ([RFC 1071](https://www.rfc-editor.org/rfc/rfc1071)): the 16-bit
/// ones'-complement of the ones'-complement sum of big-endian 16-bit words.
///
/// The bytes may come in pieces of any length, odd ones included: the result is that of the pieces
/// laid end to end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checksum {
    /// Words as the host reads them: RFC 1071 section 2(B) lets one swap at the end stand for a swap
    /// of each. Only folded 16-bit sums are added, so it would take 2^48 pieces to overflow.
    sum: u64,
    /// Whether the bytes so far end in the middle of a word.
    odd: bool,
}

impl Checksum {
    /// The sum of no bytes.
    pub(super) const fn new() -> Checksum {
        Checksum { sum: 0, odd: false }
    }

    /// The IPv4 pseudo-header of [RFC 768](https://www.rfc-editor.org/rfc/rfc768). `length` is that of
    /// the UDP header and payload, in bytes.
    pub(super) fn pseudo_ipv4(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: u8,
        length: u16,
    ) -> Checksum {
        let mut sum = Checksum::new();
        sum.add(&source.octets());
        sum.add(&destination.octets());
        sum.add_u16(u16::from(protocol));
        sum.add_u16(length);
        sum
    }

    /// The IPv6 pseudo-header of [RFC 8200, section 8.1](https://www.rfc-editor.org/rfc/rfc8200#section-8.1).
    /// `length` is that of the upper-layer header and payload, in bytes.
    pub(super) fn pseudo_ipv6(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next_header: u8,
        length: u32,
    ) -> Checksum {
        let mut sum = Checksum::new();
        sum.add(&source.octets());
        sum.add(&destination.octets());
        sum.add_u32(length);
        sum.add_u32(u32::from(next_header));
        sum
    }

    /// Goes on with `bytes`.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.append(Checksum { sum: u64::from(sum(bytes)), odd: bytes.len() % 2 == 1 });
    }

    /// Goes on with the two bytes of a big-endian field.
    pub(super) fn add_u16(&mut self, value: u16) {
        self.add(&value.to_be_bytes());
    }

    /// Goes on with the four bytes of a big-endian field.
    pub(super) fn add_u32(&mut self, value: u32) {
        self.add(&value.to_be_bytes());
    }

    /// Goes on with bytes that were summed on their own, so that a part that stays the same is summed
    /// once for many packets.
    fn append(&mut self, following: Checksum) {
        let following_sum = fold(following.sum);
        // A piece that starts in the middle of a word has its bytes in the other halves of the words.
        let aligned = if self.odd { following_sum.swap_bytes() } else { following_sum };
        self.sum += u64::from(aligned);
        self.odd ^= following.odd;
    }

    /// The checksum as a number: a field holds it big-endian. A last odd byte counts as if a zero
    /// followed.
    pub(super) fn finish(self) -> u16 {
        !u16::from_be(fold(self.sum))
    }
}

/// The ones'-complement sum of `bytes`, in host order. 32-bit words in a 64-bit sum leave room for the
/// carries, and the compiler turns the loop into vector additions; an add-with-carry chain would not be.
fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0u64;
    for block in bytes.chunks(BLOCK) {
        let (words, tail) = block.as_chunks::<4>();
        let mut sum = words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum::<u64>();
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        sum += u64::from(u32::from_ne_bytes(last));
        total += u64::from(fold(sum));
    }
    fold(total)
}

/// Adds the carries back in until 16 bits hold the sum. Only zero folds to zero.
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Bytes whose 32-bit words surely fit a 64-bit sum. A multiple of 4, so that only the last block has a
/// tail.
const BLOCK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum = Checksum::new();
        sum.add(bytes);
        sum.finish()
    }

    /// RFC 1071's definition, a word at a time, with the carry added at once.
    fn by_definition(bytes: &[u8]) -> u16 {
        let mut sum = 0u16;
        for word in bytes.chunks(2) {
            let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
            let (wrapped, carry) = sum.overflowing_add(word);
            sum = wrapped + u16::from(carry);
        }
        !sum
    }

    /// RFC 1071, section 3: the sum of these eight bytes is 2ddf0, folded ddf2.
    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_extremes() {
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0; 64]), 0xffff);
        assert_eq!(checksum(&[0xab]), !0xab00);
        // The most carries there can be, in more than one block.
        for length in [1, 2, 3, 4, 5, BLOCK - 1, BLOCK, BLOCK + 3, 2 * BLOCK + 7] {
            let ones = vec![0xff; length];
            assert_eq!(checksum(&ones), by_definition(&ones), "{length} bytes");
        }
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0x1_0000_0000_0000), 1);
    }

    proptest! {
        #[test]
        fn equals_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(checksum(&bytes), by_definition(&bytes));
        }

        #[test]
        fn any_split_gives_the_checksum_of_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12),
        ) {
            let (mut added, mut appended) = (Checksum::new(), Checksum::new());
            for piece in &pieces {
                added.add(piece);
                let mut own = Checksum::new();
                own.add(piece);
                appended.append(own);
            }
            let whole = by_definition(&pieces.concat());
            prop_assert_eq!(added.finish(), whole);
            prop_assert_eq!(appended.finish(), whole);
        }

        #[test]
        fn fields_are_big_endian(before in any::<u8>(), short: u16, long: u32, odd: bool) {
            let mut sum = Checksum::new();
            let mut bytes = vec![];
            if odd {
                sum.add(&[before]);
                bytes.push(before);
            }
            sum.add_u16(short);
            sum.add_u32(long);
            bytes.extend(short.to_be_bytes());
            bytes.extend(long.to_be_bytes());
            prop_assert_eq!(sum.finish(), by_definition(&bytes));
        }
    }
}
