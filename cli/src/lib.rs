//! The `doorbell` program: arguments to configuration to run, and how that looks on a terminal.
#![allow(unreachable_pub, missing_docs, reason = "nobody imports the program but its own `main`")]

/// Prints a line.
macro_rules! say {
    ($($argument:tt)*) => { $crate::standard_output::line(format_args!($($argument)*)) };
}

mod args;
mod bench;
pub mod config;
mod devices;
mod exit;
mod interruption;
mod json;
mod listener;
mod manual;
mod metrics;
mod monitor;
mod nic;
mod open_source;
mod output;
mod pipe;
mod plan;
mod progress;
mod quantity;
pub mod recv;
mod report;
mod send;
mod setup;
mod signals;
pub mod source;
mod standard_error;
mod standard_output;
mod threads;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use indicatif::HumanCount;
use tracing_subscriber::EnvFilter;

use self::args::{Arguments, Command};

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    output::outlive_file_limit();
    signals::hold();
    standard_error::start();
    let mut code = match Arguments::try_parse() {
        Ok(arguments) => obey(arguments),
        Err(error) => {
            standard_output::explain(&error);
            ExitCode::from(error.exit_code() as u8)
        }
    };
    if let Some(error) = standard_output::failure() {
        standard_error::line(format_args!("doorbell: cannot write to standard output: {error}"));
        code = ExitCode::from(exit::OUTPUT_LOST);
    }
    standard_error::settle();
    code
}

fn obey(arguments: Arguments) -> ExitCode {
    log(arguments.verbose);
    if !matches!(arguments.command, Command::Send(_) | Command::Recv(_)) {
        signals::release();
    }
    let result = match arguments.command {
        Command::Send(arguments) => send::run(arguments),
        Command::Recv(arguments) => recv::run(&arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::page(&arguments),
    };
    result.unwrap_or_else(|failure| {
        standard_error::line(format_args!("doorbell: {}", failure.words()));
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
    // What draws pictures warns of lines too short to be seen.
    let default =
        || EnvFilter::new(format!("{default},tiny_skia=off,tiny_skia_path=off,resvg=off,usvg=off"));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| standard_error::Log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// A number of things: `1 packet`, `2,000 packets`.
fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}
