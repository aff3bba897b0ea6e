//! Whether heaps are those that `doorbell send` makes.

use crate::source::{Pattern, Random, Source, Verifier};
use doorbell::receive::{Content, Heap, TIMESTAMP_ITEM};

use crate::args::Verify;

/// Compares heaps with what they should be.
pub struct Verification {
    verifier: Box<dyn Verifier>,
    /// Items that do not lie in one piece, brought together.
    gathered: Vec<u8>,
}

impl Verification {
    /// What the argument asks for.
    pub fn new(verify: Verify) -> Option<Self> {
        let verifier = match verify {
            Verify::Pattern => Pattern::new(Vec::new()).verifier(),
            Verify::Random { seed } => Random::new(seed, Vec::new()).verifier(),
            Verify::None => None,
        };
        Some(Self { verifier: verifier?, gathered: Vec::new() })
    }

    /// Whether the items of a heap in their order are what they should be. The timestamp says which
    /// heap this is; without one, `position` does.
    pub fn matches(&mut self, heap: &Heap, position: u64) -> bool {
        self.gathered.clear();
        let mut pieces = 0;
        let mut single: &[u8] = &[];
        let mut timestamp = None;
        for (id, content) in heap.items() {
            match content {
                Content::Immediate(value) if id == TIMESTAMP_ITEM => timestamp = Some(value),
                Content::Immediate(_) => {}
                Content::Addressed(bytes) => {
                    match pieces {
                        0 => single = bytes,
                        1 => self.gathered.extend([single, bytes].concat()),
                        _ => self.gathered.extend_from_slice(bytes),
                    }
                    pieces += 1;
                }
            }
        }
        let bytes = if pieces > 1 { &self.gathered } else { single };
        let index = match (timestamp, bytes.len() as u64) {
            (Some(timestamp), len @ 1..) if timestamp % len == 0 => timestamp / len,
            (Some(_), _) => return false,
            (None, _) => position,
        };
        self.verifier.matches(index, bytes)
    }
}
