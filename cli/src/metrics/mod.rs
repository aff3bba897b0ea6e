//! Figures for Prometheus and whatever else speaks its formats.

mod exposition;
mod request;
mod server;

pub use self::exposition::{Kind, Metric};
pub use self::server::Server;
