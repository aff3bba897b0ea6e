//! The `doorbell` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorbell_cli::run()
}
