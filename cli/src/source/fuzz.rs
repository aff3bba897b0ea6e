//! What must hold whatever a file says: the body of a fuzz target, which the tests run, too.

pub use super::npy::arbitrary_npy;
