//! Whether heaps are those that `doorbell send` makes.

use doorbell::receive::Verification;

use crate::args::Verify;
use crate::source::{Pattern, Random, Source};

/// Compares heaps with what they should be, as the argument asks for.
pub fn verification(verify: Verify) -> Option<Verification> {
    let verifier = match verify {
        Verify::Pattern => Pattern::new(Vec::new()).verifier(),
        Verify::Random { seed } => Random::new(seed, Vec::new()).verifier(),
        Verify::None => None,
    };
    verifier.map(Verification::new)
}
