//! The command line.

use std::fs;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use doorbell::config::{Config, Options};

use super::exit::Failure;

/// Sends SPEAD heaps from registered memory, one doorbell per batch
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    /// Say more on standard error; twice for details. RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a stream; with no destination, to a verifying receiver of its own on loopback
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArguments),
    /// Show the packets, messages, memory and doorbells that a send would use; sends nothing
    Plan(PlanArguments),
    /// Show RDMA devices and network interfaces, what works here, and what to do for the rest
    Devices(DevicesArguments),
}

#[derive(Debug, Args)]
pub struct SendArguments {
    #[command(flatten)]
    pub what: What,

    /// End standard output with a report of one JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Show neither progress nor report
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Print the configuration that file and flags come to as TOML, and send nothing
    #[arg(long, help_heading = "Output")]
    pub print_config: bool,
}

#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    pub what: What,

    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DevicesArguments {
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// What to send.
#[derive(Debug, Args)]
pub struct What {
    /// Configuration; flags override what it says
    #[arg(value_name = "CONFIG.toml")]
    file: Option<PathBuf>,

    #[command(flatten)]
    options: Options,
}

impl What {
    /// Puts the flags over the file.
    pub fn configuration(self) -> Result<Config, Failure> {
        let Some(path) = &self.file else { return Ok(Config::from_options(self.options)?) };
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
        let options = self.options.or(Options::from_toml(&text, path)?);
        // A flag may be at fault as well, and the error names that.
        Config::from_options(options)
            .map_err(|error| Failure::Usage(format!("with {}: {error}", path.display())))
    }
}

const SEND_EXAMPLES: &str = "\
Examples:
  doorbell send                                      the default stream, verified on loopback
  doorbell send --to 239.1.0.0+3:7148 --rate 10Gb/s  four substreams, one rate
  doorbell send --to host:7148 --source frames.npy   an array, a heap for each of its first axis
  doorbell send --to host:7148 --backend pcap --pcap stream.pcap";
