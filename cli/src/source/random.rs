//! Random numbers: bytes that no pattern of loss or reordering can imitate.

use super::{Filled, Source, SourceError, SourceItem, Verifier};
use doorbell::region::PayloadMut;

/// Heaps of pseudo-random bytes, without end.
///
/// The bytes are the little-endian outputs of SplitMix64, whose state starts, in heap `i`, at
/// `seed + i * 2^32 * 0x9E3779B97F4A7C15`: heaps are 2^32 outputs apart in one sequence, and any of
/// them can be made without those before it.
///
/// Source: G. L. Steele, D. Lea, C. H. Flood, *Fast splittable pseudorandom number generators*,
/// OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    items: Vec<SourceItem>,
}

impl Random {
    /// Heaps that consist of these items; another seed makes others.
    pub fn new(seed: u64, items: Vec<SourceItem>) -> Self {
        Self { seed, items }
    }
}

impl Source for Random {
    fn items(&self) -> &[SourceItem] {
        &self.items
    }

    fn heaps(&self) -> Option<u64> {
        None
    }

    fn fill(
        &mut self,
        index: u64,
        payload: PayloadMut<'_>,
        _may_wait: bool,
    ) -> Result<Filled, SourceError> {
        let mut stream = SplitMix64::of_heap(self.seed, index);
        payload.chunks().for_each(|chunk| stream.fill(chunk));
        Ok(Filled::Whole)
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        Some(Box::new(RandomVerifier { seed: self.seed }))
    }
}

#[derive(Debug)]
struct RandomVerifier {
    seed: u64,
}

impl Verifier for RandomVerifier {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        let mut stream = SplitMix64::of_heap(self.seed, index);
        let (words, rest) = payload.as_chunks::<WORD>();
        words.iter().all(|word| *word == stream.next_bytes())
            && *rest == stream.next_bytes()[..rest.len()]
    }
}

/// The generator, as a stream of bytes that may be taken in pieces of any length.
struct SplitMix64 {
    state: u64,
    /// The last output; `left` bytes at its end are not yet taken.
    word: [u8; WORD],
    left: usize,
}

impl SplitMix64 {
    fn of_heap(seed: u64, index: u64) -> Self {
        let state = seed.wrapping_add(index.wrapping_mul(GAMMA << 32));
        Self { state, word: [0; WORD], left: 0 }
    }

    fn next_bytes(&mut self) -> [u8; WORD] {
        self.state = self.state.wrapping_add(GAMMA);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31).to_le_bytes()
    }

    fn fill(&mut self, chunk: &mut [u8]) {
        let (head, chunk) = chunk.split_at_mut(self.left.min(chunk.len()));
        let start = WORD - self.left;
        head.copy_from_slice(&self.word[start..start + head.len()]);
        self.left -= head.len();

        let (words, tail) = chunk.as_chunks_mut::<WORD>();
        words.iter_mut().for_each(|word| *word = self.next_bytes());
        if !tail.is_empty() {
            self.word = self.next_bytes();
            self.left = WORD - tail.len();
            tail.copy_from_slice(&self.word[..tail.len()]);
        }
    }
}

/// The odd number closest to 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
const WORD: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::filled;
    use super::*;

    /// The first outputs for seed 1234567 of the C program of S. Vigna,
    /// <https://prng.di.unimi.it/splitmix64.c>, as listed at
    /// <https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64>.
    #[test]
    fn outputs_are_those_of_the_reference() {
        let mut source = Random::new(1_234_567, vec![SourceItem::bytes(40)]);
        let expected: Vec<u8> = [
            6_457_827_717_110_365_317_u64,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ]
        .iter()
        .flat_map(|output| output.to_le_bytes())
        .collect();
        assert_eq!(filled(&mut source, 0, 9000), (Filled::Whole, expected));
    }

    /// Heap 3 is what a generator has to say after 3 * 2^32 outputs, here from Python's integers:
    /// `(seed + (3 * 2**32 + 1) * 0x9E3779B97F4A7C15) % 2**64`, mixed.
    #[test]
    fn heaps_are_far_apart() {
        let mut source = Random::new(42, vec![SourceItem::bytes(8)]);
        let (_, bytes) = filled(&mut source, 3, 9000);
        assert_eq!(u64::from_le_bytes(bytes.try_into().unwrap()), HEAP_3_OF_42);
    }

    const HEAP_3_OF_42: u64 = 0xc9fd_83c9_0b9f_8d18;

    proptest! {
        #[test]
        fn pieces_of_any_length_make_the_same_stream(
            seed: u64, index: u64, pieces in prop::collection::vec(0_usize..40, 0..20),
        ) {
            let mut whole = vec![0; pieces.iter().sum()];
            SplitMix64::of_heap(seed, index).fill(&mut whole);
            let mut stream = SplitMix64::of_heap(seed, index);
            let mut pieced = vec![0; whole.len()];
            let mut rest = &mut pieced[..];
            for piece in pieces {
                let (now, later) = rest.split_at_mut(piece);
                stream.fill(now);
                rest = later;
            }
            prop_assert_eq!(&pieced, &whole);

            let verifier = Random::new(seed, Vec::new()).verifier().unwrap();
            prop_assert!(verifier.matches(index, &whole));
            for wrong in 0..whole.len() {
                whole[wrong] ^= 1;
                prop_assert!(!verifier.matches(index, &whole));
                whole[wrong] ^= 1;
            }
        }
    }
}
