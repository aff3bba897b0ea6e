//! The `doorbell` program: arguments to configuration to run, and how that looks on a terminal.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a program prints, and nobody imports it"
)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
