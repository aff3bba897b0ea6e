//! A pattern: every byte says which heap it is of.

use super::{Filled, Source, SourceError, SourceItem, Verifier};
use doorbell::region::PayloadMut;

/// Heaps of which every byte is the heap's index modulo 256, without end.
#[derive(Clone, Debug)]
pub struct Pattern {
    items: Vec<SourceItem>,
}

impl Pattern {
    /// Heaps that consist of these items.
    pub fn new(items: Vec<SourceItem>) -> Self {
        Self { items }
    }
}

impl Source for Pattern {
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
        payload.chunks().for_each(|chunk| chunk.fill(index as u8));
        Ok(Filled::Whole)
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        Some(Box::new(PatternVerifier))
    }
}

#[derive(Debug)]
struct PatternVerifier;

impl Verifier for PatternVerifier {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        // If each byte equals its neighbour, all equal the first: one memcmp(3), and nothing to
        // compare with that would have to be kept.
        match payload {
            [] => true,
            [first, rest @ ..] => *first == index as u8 && rest == &payload[..rest.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::filled;
    use super::*;

    #[test]
    fn every_byte_is_the_index() {
        let mut pattern = Pattern::new(vec![SourceItem::samples(5000)]);
        assert_eq!(filled(&mut pattern, 258, 1472), (Filled::Whole, vec![2; 5000]));
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let verifier = Pattern::new(Vec::new()).verifier().unwrap();
        assert!(verifier.matches(0x107, &[]));
        assert!(verifier.matches(0x107, &[7; 300]));
        assert!(!verifier.matches(0x107, &[8; 300]));
        for wrong in 0..300 {
            let mut payload = [7; 300];
            payload[wrong] = 6;
            assert!(!verifier.matches(0x107, &payload), "byte {wrong}");
        }
    }
}
