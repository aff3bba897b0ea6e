//! The command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{
    Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum, value_parser,
};
use clap_complete::Shell;
use doorbell::receive::SourceFilter;
use doorbell::settings::{Endpoint, InterfaceName, QueuePairKind, Size, number};

use super::bench::SinkKind;
use super::config::{Config, ConfigError, ListenAddress, Options, flags};
use super::exit::Failure;
use super::recv::Origin;

/// Sends SPEAD heaps from registered memory, one doorbell per batch
#[derive(Debug, Parser)]
#[command(name = "doorbell", version, propagate_version = true, max_term_width = 100)]
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
    /// Receive a stream of any sender: report loss, store frames as numpy files, show one as a picture
    #[command(after_help = RECV_EXAMPLES)]
    Recv(RecvArguments),
    /// Show the packets, messages, memory and doorbells that a send would use; sends nothing
    Plan(PlanArguments),
    /// Show RDMA devices and network interfaces, what works here, and what to do for the rest
    Devices(DevicesArguments),
    /// Measure how fast heaps of which size go out, beside what the kernel takes at most
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArguments),
    /// Print completions of commands and flags, for a shell to read
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArguments),
    /// Print a manual page: of the program, or of one of its commands
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArguments),
}

#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// Whose completions
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArguments {
    /// Of which command [default: of the program]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

#[derive(Debug, Args)]
pub struct SendArguments {
    #[command(flatten)]
    pub what: What,

    /// Print the report as one JSON object, and nothing else
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
pub struct RecvArguments {
    /// Where the stream arrives: an address of this machine or a multicast group, which is joined;
    /// 239.1.0.0+3:7148 is four. Each is a substream, and ends with a stop heap of its own; so is each
    /// connection to tcp:HOST:PORT, and each address in a capture FILE.pcap. With --qp ud, a group is
    /// 239.1.0.0/0xffffff
    #[arg(long, value_name = "HOST:PORT|FILE.pcap", default_value = "0.0.0.0:7148")]
    pub from: Vec<Origin>,

    /// Take packets, stop heaps included, only from there [default: from anywhere]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub source_filter: Option<SourceFilter>,

    /// Network interface to join groups on, and whose address 0.0.0.0 and [::] mean [default: by route]
    #[arg(long, value_name = "NAME|ADDR")]
    pub interface: Option<InterfaceName>,

    /// Way off the wire: udp, sockets; or verbs, a queue of an RDMA device
    #[arg(long, value_name = "udp|verbs", default_value = "udp", hide_possible_values = true)]
    pub backend: RecvBackend,

    /// Queue pair of an RDMA device: ud, for datagrams of a sender with --qp ud [default: none; verbs needs one]
    #[arg(long, value_name = "ud")]
    pub qp: Option<QueuePairKind>,

    /// RDMA device, such as mlx5_0 [default: the interface's, or the only one]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Key that datagrams must carry; the queue's address, printed at the start, has it
    #[arg(long, value_name = "KEY", default_value = "0x1234567", value_parser = queue_key)]
    pub qkey: u32,

    /// End after this many heaps with data [default: at the stop heap]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub heaps: Option<u64>,

    /// Cnt of the first heap: those before the first that comes are missing, then [default: not known]
    #[arg(long, value_name = "N", value_parser = number_of_a_heap)]
    pub first_cnt: Option<u64>,

    /// What every byte is compared with, as made by `doorbell send --source`
    #[arg(long, value_name = "pattern|random:SEED|none", default_value = "none")]
    pub verify: Verify,

    /// Stack the frames of one item, heap by heap, in one numpy file; a pipe, or - for standard output, gets
    /// one after the other, each as a file of its own [default: none]
    #[arg(long, value_name = "OUT.npy", conflicts_with = "write_dir")]
    pub write: Option<PathBuf>,

    /// Store the frame of each heap in a file of its own, frame-CNT.npy [default: nowhere]
    #[arg(long, value_name = "DIR")]
    pub write_dir: Option<PathBuf>,

    /// The item to store or show [default: the largest of the first heap]
    #[arg(long, value_name = "NAME|ID")]
    pub item: Option<String>,

    /// Store samples as 32-bit floats, times the item `scale` plus the item `offset`
    #[arg(long)]
    pub scale: bool,

    /// Show the last frame as a picture of 8 bits, HDR through a tone curve [default: none]
    #[arg(long, value_name = "OUT.png")]
    pub preview: Option<PathBuf>,

    /// Replace files that exist, which are otherwise kept
    #[arg(long)]
    pub force: bool,

    /// Heaps that are put together at once: how far packets may be out of order
    #[arg(long, value_name = "HEAPS", default_value = "64",
        value_parser = value_parser!(u32).range(1..=65536))]
    pub window: u32,

    /// The longest heap; longer ones are ignored. Heaps that are put together hold twice this at most
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub max_heap: Size,

    /// Receive buffer of each socket; beyond net.core.rmem_max that takes CAP_NET_ADMIN
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub buffer: Size,

    /// End when no packet came for so long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub timeout: Option<Duration>,

    /// Serve figures of the stream to Prometheus, at http://HOST:PORT/metrics, such as localhost:9913 [default: off]
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<ListenAddress>,

    /// Print the report as one JSON object, and nothing else
    #[arg(long)]
    pub json: bool,

    /// Show neither progress nor report
    #[arg(short, long)]
    pub quiet: bool,
}

/// Ways off the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecvBackend {
    Udp,
    Verbs,
}

fn count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|&count: &u64| count > 0);
    count.ok_or_else(|| format!("`{text}` is not in 1..: a whole number, in digits"))
}

fn number_of_a_heap(text: &str) -> Result<u64, String> {
    number(text).ok_or_else(|| "expected the number of a heap, such as 1".into())
}

fn queue_key(text: &str) -> Result<u32, String> {
    number(text)
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| "expected a number of 32 bits, such as 0x1234567".into())
}

/// What received bytes are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Verify {
    Pattern,
    Random { seed: u64 },
    None,
}

impl FromStr for Verify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seed = |text: &str| text.strip_prefix("random:")?.parse().ok();
        match text {
            "pattern" => Ok(Self::Pattern),
            "none" => Ok(Self::None),
            _ => seed(text)
                .map(|seed| Self::Random { seed })
                .ok_or_else(|| "expected pattern, random:SEED such as random:1, or none".into()),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|&seconds: &f64| seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected a number of seconds above 0, such as 2.5".into())
}

#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    pub what: What,

    /// Print one JSON object, and nothing else
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DevicesArguments {
    /// Print one JSON object, and nothing else
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Heap sizes
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = HEAP_SIZES)]
    pub sizes: Vec<Size>,

    /// The largest packets, in bytes of SPEAD [default: 1472,8972, or what the route carries]
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    pub packet_sizes: Vec<Size>,

    /// Ways onto the wire [default: those of udp,verbs that there are]
    #[arg(long, value_delimiter = ',')]
    pub backends: Vec<BenchBackend>,

    /// How packets lie in memory
    #[arg(long, value_delimiter = ',', default_values = ["packed", "split"])]
    pub layouts: Vec<BenchLayout>,

    /// How often each is measured, all in turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,

    /// How long, each time
    #[arg(long, value_name = "S", default_value = "0.1", value_parser = seconds)]
    pub seconds: Duration,

    /// Where packets end: auto, ifb, veth, loopback or HOST:PORT
    ///
    /// `auto` is the first that can be had of: ifb, a device in a private network namespace that
    /// frees what it is given; veth, a pair of devices there whose far end drops; loopback, a socket
    /// that nobody reads. The first two take root.
    #[arg(long, value_name = "SINK", default_value = "auto", verbatim_doc_comment)]
    pub sink: SinkKind,

    /// Print one JSON object, and nothing else
    #[arg(long)]
    pub json: bool,

    /// Draw the throughput into this file [default: none]
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub plot: Option<PathBuf>,

    /// Replace that file if it exists, which is otherwise kept
    #[arg(long)]
    pub force: bool,
}

/// Backends that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchBackend {
    Udp,
    Verbs,
}

/// Layouts that can be measured: the program fills none, so payload need not lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchLayout {
    Packed,
    Split,
}

/// What to send: a file, and flags that override what it says.
#[derive(Debug)]
pub struct What {
    file: Option<PathBuf>,
    flags: ArgMatches,
}

impl Args for What {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new(FILE)
            .value_name("CONFIG.toml")
            .help("Configuration; flags override what it says [default: flags alone]")
            .value_parser(value_parser!(PathBuf));
        command.arg(file).args(flags::arguments())
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for What {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let file = matches.get_one::<PathBuf>(FILE).cloned();
        Ok(Self { file, flags: matches.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl What {
    /// Puts the flags over the file.
    pub fn configuration(self) -> Result<Config, Failure> {
        let mut options = Options::default();
        let Some(path) = &self.file else {
            return Ok(self.flags_over(options)?);
        };
        let hint = || flag_for(path).map_or_else(String::new, |flag| format!("; {flag}"));
        let text = fs::read_to_string(path).map_err(|error| {
            let is_text = error.kind() != io::ErrorKind::InvalidData;
            let why = if is_text { error.to_string() } else { "it is no text".into() };
            let message = format!("cannot read {} as a configuration: {why}", path.display());
            Failure::Usage(message + &hint())
        })?;
        options.read_toml(&text, path).map_err(|error| match error {
            ConfigError::Syntax { .. } => Failure::Usage(format!("{error}{}", hint())),
            other => other.into(),
        })?;
        // A flag may be at fault as well, and the error names that.
        self.flags_over(options)
            .map_err(|error| Failure::Usage(format!("with {}: {error}", path.display())))
    }

    /// With what a launcher of many senders says of this one.
    fn flags_over(&self, mut options: Options) -> Result<Config, ConfigError> {
        options.read_flags(&self.flags)?;
        options.settings.senders.adopt(|name| std::env::var(name).ok())?;
        Config::from_options(options)
    }
}

/// Which flag a word needs that was given as a configuration and seems to be something else.
fn flag_for(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if path.extension().is_some_and(|it| it == "toml") {
        return None;
    }
    match text.parse::<Endpoint>() {
        Ok(to) if !path.exists() => Some(format!("to send to {to}, say --to {to}")),
        _ if text == "-" => Some("to send standard input, say --source -".into()),
        _ if SWITCHED.contains(&text) => Some(
            "the value of a switch goes after `=`, and is true or false: --hold-back=true".into(),
        ),
        // Nothing says that it is a file at all.
        _ if path.extension().is_none() && !path.exists() => None,
        _ => Some(format!("to send what is in it, say --source {text}")),
    }
}

/// What people write after a flag that takes no value.
const SWITCHED: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];

/// Of the positional argument, among keys that all have a section.
const FILE: &str = "file";

const SEND_EXAMPLES: &str = "\
Examples:
  doorbell send                                      the default stream, verified on loopback
  doorbell send --to 239.1.0.0+3:7148 --rate 10Gb/s  four substreams, one rate
  doorbell send --to host:7148 --source frames.npy   an array, a heap for each of its first axis
  doorbell send --to host:7148 --backend pcap --pcap stream.pcap";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  doorbell completions bash > ~/.local/share/bash-completion/completions/doorbell
  doorbell completions zsh > ~/.zfunc/_doorbell          in a directory of $fpath
  doorbell completions fish > ~/.config/fish/completions/doorbell.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  doorbell man > doorbell.1
  doorbell man send | man -l -";

const BENCH_EXAMPLES: &str = "\
Examples:
  doorbell bench --plot throughput.svg         the whole sweep, in a minute and a half
  doorbell bench --sizes 8KiB --repeat 15      one size, more closely
  doorbell bench --sink 192.0.2.7:7148         over a real link, to a host that need not listen
  unshare -rn doorbell bench                   a network of its own, without being root";

/// Powers of two, as data is.
const HEAP_SIZES: [Size; 14] = {
    let mut sizes = [Size::from_bytes(0); 14];
    let mut index = 0;
    while index < sizes.len() {
        sizes[index] = Size::from_bytes(512 << index);
        index += 1;
    }
    sizes
};

const RECV_EXAMPLES: &str = "\
Examples:
  doorbell recv                                            what arrives at port 7148
  doorbell recv --from 239.1.0.0+3:7148 --interface eth0   four multicast groups, a substream each
  doorbell recv --write frames.npy --preview last.png      frames for numpy, and one to look at
  doorbell recv --verify pattern --timeout 5               what `doorbell send --to HOST:7148` sends";
