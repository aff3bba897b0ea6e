//! The `doorbell` program: arguments to configuration to run, and how that looks on a terminal.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "a program prints, and nobody imports it but its own `main`"
)]

/// Prints a line; one that nobody reads any more, as behind `| head`, is no reason to panic.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

mod args;
mod bench;
pub mod config;
mod devices;
mod exit;
mod json;
mod listener;
mod manual;
mod monitor;
mod nic;
mod open_source;
mod output;
mod pipe;
mod plan;
mod progress;
pub mod recv;
mod report;
mod send;
mod setup;
mod signals;
pub mod source;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use indicatif::HumanCount;
use tracing_subscriber::EnvFilter;

use self::args::{Arguments, Command};

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    log(arguments.verbose);
    let command = |command| match command {
        Command::Send(arguments) => send::run(arguments),
        Command::Recv(arguments) => recv::run(&arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::page(&arguments),
    };
    let result = output::outlive_file_limit().and_then(|()| command(arguments.command));
    result.unwrap_or_else(|failure| {
        eprintln!("doorbell: {failure}");
        failure.code()
    })
}

/// Logs to standard error: warnings, more with `-v`, or what `RUST_LOG` says.
fn log(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// A number of things: `1 packet`, `2,000 packets`.
fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}
