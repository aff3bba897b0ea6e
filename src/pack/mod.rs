//! Samples in as few bits as they need.

mod encoder;
mod format;
mod half;
mod halves;
mod interval;
mod sample;
mod samples;

pub use encoder::{Encoder, Loss};
pub use format::{PackFormat, UnknownFormat};
pub use interval::{Interval, InvalidInterval, NoInterval};
pub use sample::SampleType;
pub use samples::Samples;
