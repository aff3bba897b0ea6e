//! Many senders that make up one stream: which share of it is this one's.

use std::num::NonZeroU32;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::keys::{HEAPS, RANK, RANKS, SHARE, SOURCE, TO};
use super::value::{choice, number};
use super::{ConfigError, Endpoint, Key, SourceKind, StreamConfig};

/// The section `[senders]`.
#[derive(Args, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[command(next_help_heading = "Many senders")]
#[serde(default, deny_unknown_fields)]
pub struct SendersOptions {
    /// Send a share of the stream: every so many heaps, destinations with their heaps, or files [default:
    /// all of it, or heaps with --ranks]
    #[arg(
        id = "senders.share",
        long = "share",
        value_name = "heaps|destinations|files",
        hide_possible_values = true
    )]
    #[serde(with = "choice")]
    pub share: Option<ShareKind>,

    /// Which of the senders this is, from 0 [default: with --share, the launcher's: Open MPI, PMIx, PMI,
    /// Slurm, Kubernetes]
    #[arg(id = "senders.rank", long = "rank", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub rank: Option<u32>,

    /// How many senders there are [default: with --share, as the launcher says]
    #[arg(id = "senders.ranks", long = "ranks", value_name = "N")]
    #[serde(deserialize_with = "number")]
    pub ranks: Option<u32>,

    /// End with a stop heap, at which receivers end [default: true, but false where several senders share
    /// a destination]
    #[arg(
        id = "senders.stop_heap",
        long = "stop-heap",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub stop_heap: Option<bool>,
}

/// What senders share.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareKind {
    /// Heaps: each takes one in turn, to all destinations.
    Heaps,
    /// Destinations: each takes one in turn, with the heaps that go there.
    Destinations,
    /// Files: each takes one in turn, whole.
    Files,
}

/// One of several senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    index: u32,
    size: NonZeroU32,
}

impl Rank {
    /// Sender `index` of `size`; `None` unless it is below that.
    pub fn new(index: u32, size: u32) -> Option<Self> {
        Some(Self { index, size: NonZeroU32::new(size).filter(|size| index < size.get())? })
    }

    /// Which one, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn size(self) -> u32 {
        self.size.get()
    }

    /// How many of `total` things, dealt out in turn, are this sender's.
    pub fn share_of(self, total: u64) -> u64 {
        total.saturating_sub(self.index.into()).div_ceil(self.size().into())
    }

    /// Which of all things thing `own` of this sender's is.
    pub fn nth(self, own: u64) -> u64 {
        own.wrapping_mul(self.size().into()).wrapping_add(self.index.into())
    }
}

/// What is said of this sender among many, with every default filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendersConfig {
    /// What is shared, and this sender's place; `None` if it sends the whole stream.
    pub share: Option<(ShareKind, Rank)>,
    /// Whether the stream ends with a stop heap.
    pub stop_heap: bool,
}

impl SendersOptions {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            share: self.share.or(other.share),
            rank: self.rank.or(other.rank),
            ranks: self.ranks.or(other.ranks),
            stop_heap: self.stop_heap.or(other.stop_heap),
        }
    }

    /// Takes from a launcher's environment what was not said, if the stream is to be shared.
    /// `variable` looks a variable up.
    ///
    /// # Errors
    /// A variable that is no number, or a rank without the number of ranks.
    pub fn adopt(self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        // A batch script of Slurm, too, has the rank of one of many tasks: nothing is shared unless
        // that is asked for.
        let shared = self.share.is_some() || self.ranks.is_some();
        if !shared || (self.rank.is_some() && self.ranks.is_some()) {
            return Ok(self);
        }
        let value = |name: &'static str, key: Key| match variable(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                let hint = "a launcher is to set it to a number; give this key instead";
                ConfigError::unusable(key, format_args!("{name}={text}"), hint)
            }),
        };
        for (launcher, rank, ranks) in LAUNCHERS {
            let Some(found) = value(rank, RANK)? else { continue };
            let size = ranks.map_or(Ok(None), |ranks| value(ranks, RANKS))?;
            let rank = self.rank.unwrap_or(found);
            return match self.ranks.or(size) {
                Some(ranks) => Ok(Self { rank: Some(rank), ranks: Some(ranks), ..self }),
                None => Err(ConfigError::missing(
                    RANKS,
                    format!(
                        "{launcher} says which sender this is ({found}), not how many there are"
                    ),
                )),
            };
        }
        Ok(self)
    }
}

impl SendersConfig {
    pub(super) fn resolve(
        options: &SendersOptions,
        to: &[Endpoint],
        source: &SourceKind,
        count: Option<u64>,
    ) -> Result<Self, ConfigError> {
        let share = match (options.rank, options.ranks) {
            (None, None) if options.share.is_none() => None,
            (None, ranks) => {
                let given = if ranks.is_some() { RANKS } else { SHARE };
                let hint = format!(
                    "{given} needs to know which sender this is: give its number, from 0, or start it by \
                     a launcher (mpirun, srun, a Kubernetes indexed job) with {SHARE}"
                );
                return Err(ConfigError::missing(RANK, hint));
            }
            (Some(_), None) => {
                let hint = format!("{RANK} needs to know how many senders there are");
                return Err(ConfigError::missing(RANKS, hint));
            }
            (Some(_), Some(0)) => {
                return Err(ConfigError::unusable(RANKS, 0, "give 1 or more"));
            }
            (Some(index), Some(size)) => {
                let rank = Rank::new(index, size).ok_or_else(|| {
                    let hint = format!("ranks count from 0: of {size}, the last is {}", size - 1);
                    ConfigError::unusable(RANK, index, hint)
                })?;
                Some((options.share.unwrap_or(ShareKind::Heaps), rank))
            }
        };
        if let Some((kind, rank)) = share {
            divisible(kind, rank, to, source, count)?;
        }
        let alone =
            share.is_none_or(|(kind, rank)| kind == ShareKind::Destinations || rank.size() == 1);
        Ok(Self { share, stop_heap: options.stop_heap.unwrap_or(alone) })
    }

    /// This sender's share of what is dealt out by `kind`; all of it where that is not shared.
    pub fn share_of(&self, kind: ShareKind) -> Option<Rank> {
        self.share.filter(|(shared, _)| *shared == kind).map(|(_, rank)| rank)
    }

    /// How heaps are dealt out, if they are: in turn to senders, be it that their destinations are.
    pub fn heaps(&self) -> Option<Rank> {
        self.share_of(ShareKind::Heaps).or(self.share_of(ShareKind::Destinations))
    }

    /// The cnt of this sender's first heap, and from one of its heaps to the next: those of all senders
    /// interleave, and none occurs twice.
    pub fn cnts(&self, stream: &StreamConfig) -> (u64, u64) {
        let (start, step) = (stream.cnt_start, stream.cnt_step);
        let (index, size) = self.share.map_or((0, 1), |(_, rank)| (rank.index(), rank.size()));
        (start.wrapping_add(step.wrapping_mul(index.into())), step.wrapping_mul(size.into()))
    }

    /// How many of `total` heaps, which all send together, are this sender's.
    pub fn own_heaps(&self, total: u64) -> u64 {
        self.heaps().map_or(total, |rank| rank.share_of(total))
    }

    /// How many of `total` destinations are this sender's.
    pub fn destinations(&self, total: u64) -> u64 {
        self.share_of(ShareKind::Destinations).map_or(total, |rank| rank.share_of(total))
    }
}

/// Whether there is as much as is to be shared.
fn divisible(
    kind: ShareKind,
    rank: Rank,
    to: &[Endpoint],
    source: &SourceKind,
    count: Option<u64>,
) -> Result<(), ConfigError> {
    let size = u64::from(rank.size());
    if to.is_empty() {
        let hint = "senders share a receiver, so none has one of its own; give HOST:PORT";
        return Err(ConfigError::missing(TO, hint));
    }
    let destinations: u64 = to.iter().map(|endpoint| u64::from(endpoint.count())).sum();
    if kind == ShareKind::Destinations && !destinations.is_multiple_of(size) {
        let hint = format!(
            "{destinations} destinations go to {size} senders in turn; give a multiple of {size}"
        );
        return Err(ConfigError::unusable(TO, destinations, hint));
    }
    if kind == ShareKind::Files {
        if !matches!(source, SourceKind::Npy(_) | SourceKind::File(_)) {
            let hint = "files are shared, and it is none; share heaps, or give files";
            return Err(ConfigError::unusable(SOURCE, source, hint));
        }
        if count.is_some() {
            let hint = "each sender sends its files whole; drop the number, or share heaps";
            return Err(ConfigError::conflict(HEAPS, SHARE, hint));
        }
    } else if let Some(count) = count.filter(|&count| count < size) {
        let hint = format!("it is what all {size} senders send together; give {size} or more");
        return Err(ConfigError::unusable(HEAPS, count, hint));
    }
    Ok(())
}

impl From<&SendersConfig> for SendersOptions {
    fn from(config: &SendersConfig) -> Self {
        let rank = config.share.map(|(_, rank)| rank);
        Self {
            share: config.share.map(|(kind, _)| kind),
            rank: rank.map(Rank::index),
            ranks: rank.map(Rank::size),
            stop_heap: Some(config.stop_heap),
        }
    }
}

/// What launchers call the rank of a process and the number of processes. The innermost first: Open MPI
/// and PMIx may themselves have been started by Slurm.
const LAUNCHERS: [(&str, &str, Option<&str>); 5] = [
    ("Open MPI", "OMPI_COMM_WORLD_RANK", Some("OMPI_COMM_WORLD_SIZE")),
    // PMIx puts the size not into the environment; launchers that speak it mostly set one of the others.
    ("PMI", "PMI_RANK", Some("PMI_SIZE")),
    ("Slurm", "SLURM_PROCID", Some("SLURM_NTASKS")),
    ("PMIx", "PMIX_RANK", None),
    ("Kubernetes", "JOB_COMPLETION_INDEX", None),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::super::{Config, Options};
    use super::*;

    fn adopt(options: SendersOptions, environment: &str) -> Result<SendersOptions, ConfigError> {
        let pairs = environment.split_whitespace().filter_map(|pair| pair.split_once('='));
        let variables: HashMap<&str, &str> = pairs.collect();
        options.adopt(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn sharing() -> SendersOptions {
        SendersOptions { share: Some(ShareKind::Heaps), ..SendersOptions::default() }
    }

    #[test]
    fn launchers_say_which_sender_this_is() {
        for (environment, rank, ranks) in [
            ("OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4", 2, 4),
            ("PMI_RANK=0 PMI_SIZE=3", 0, 3),
            ("SLURM_PROCID=7 SLURM_NTASKS=8", 7, 8),
            // The innermost launcher counts.
            ("SLURM_PROCID=0 SLURM_NTASKS=1 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", 1, 2),
            ("PMIX_RANK=5 SLURM_PROCID=1 SLURM_NTASKS=6", 1, 6),
        ] {
            let found = adopt(sharing(), environment).unwrap();
            assert_eq!((found.rank, found.ranks), (Some(rank), Some(ranks)), "{environment}");
        }
    }

    #[test]
    fn a_size_that_the_launcher_does_not_say_is_to_be_given() {
        for (environment, launcher) in
            [("JOB_COMPLETION_INDEX=3", "Kubernetes"), ("PMIX_RANK=3", "PMIx")]
        {
            let message = adopt(sharing(), environment).unwrap_err().to_string();
            assert!(message.starts_with("senders.ranks (--ranks) is missing: "), "{message}");
            assert!(message.contains(launcher), "{message}");
            let given = SendersOptions { ranks: Some(5), ..SendersOptions::default() };
            assert_eq!(adopt(given, environment).unwrap().rank, Some(3));
        }
    }

    #[test]
    fn nothing_is_shared_unless_that_is_asked_for() {
        let environment = "SLURM_PROCID=1 SLURM_NTASKS=4";
        let found = adopt(SendersOptions::default(), environment).unwrap();
        assert_eq!(found, SendersOptions::default());
        // What is given goes before what a launcher says.
        let given = SendersOptions { rank: Some(0), ranks: Some(2), ..sharing() };
        assert_eq!(adopt(given.clone(), environment).unwrap(), given);
        let given = SendersOptions { rank: Some(2), ..sharing() };
        assert_eq!(adopt(given, environment).unwrap().rank, Some(2));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let message = adopt(sharing(), "PMI_RANK=x PMI_SIZE=2").unwrap_err().to_string();
        assert!(message.starts_with("senders.rank (--rank) = PMI_RANK=x: "), "{message}");
        for (toml, expected) in [
            ("senders.share = 'heaps'", "senders.rank (--rank) is missing: senders.share"),
            ("senders.ranks = 4", "senders.rank (--rank) is missing: senders.ranks"),
            ("senders.rank = 1", "senders.ranks (--ranks) is missing"),
            ("senders = { rank = 0, ranks = 0 }", "senders.ranks (--ranks) = 0: give 1 or more"),
            ("senders = { rank = 4, ranks = 4 }", "of 4, the last is 3"),
            (
                "senders = { rank = 0, ranks = 2, share = 'destinations' }",
                "stream.to (--to) = 3: 3 destinations go to 2 senders in turn",
            ),
            (
                "senders = { rank = 0, ranks = 2, share = 'files' }",
                "source.kind (--source) = pattern: files are shared",
            ),
            (
                "senders = { rank = 0, ranks = 2 }\nheap.count = 1",
                "heap.count (--heaps) = 1: it is what all 2 senders send together",
            ),
            (
                "senders = { rank = 0, ranks = 2, share = 'files' }\nsource.kind = 'a'\nheap.count = 9",
                "heap.count (--heaps) and senders.share (--share) do not go together",
            ),
        ] {
            let error = resolve(toml).unwrap_err().to_string();
            assert!(error.contains(expected), "{toml}: {error}");
        }
        let options =
            Options::from_toml("senders = { rank = 0, ranks = 2 }", "x".as_ref()).unwrap();
        let error = Config::from_options(options).unwrap_err().to_string();
        assert!(error.starts_with("stream.to (--to) is missing: senders share"), "{error}");
    }

    #[test]
    fn stop_heaps_are_sent_where_nobody_else_sends() {
        let stops = |senders: &str| {
            resolve(&format!("senders = {{ {senders} }}")).unwrap().senders.stop_heap
        };
        assert!(stops(""));
        assert!(stops("rank = 0, ranks = 1"));
        assert!(!stops("rank = 0, ranks = 4"));
        assert!(stops("rank = 2, ranks = 3, share = 'destinations'"));
        assert!(stops("rank = 0, ranks = 4, stop_heap = true"));
        assert!(!stops("stop_heap = false"));
    }

    fn resolve(toml: &str) -> Result<Config, ConfigError> {
        let text = format!("stream.to = '239.1.0.0+2:7148'\n{toml}\n");
        Config::from_options(Options::from_toml(&text, "x".as_ref())?)
    }

    proptest! {
        /// Shares tile what is shared, and the cnts of all senders are those that one would have.
        #[test]
        fn every_heap_has_one_sender(
            total in 0_u64..200, size in 1_u32..20, start in 0_u64..1000, step in 1_u64..50,
        ) {
            let (mut heaps, mut cnts) = (BTreeSet::new(), BTreeSet::new());
            for index in 0..size {
                let rank = Rank::new(index, size).unwrap();
                let senders = SendersConfig { share: Some((ShareKind::Heaps, rank)), stop_heap: false };
                let toml = format!("stream = {{ cnt_start = {start}, cnt_step = {step} }}");
                let options = Options::from_toml(&toml, "x".as_ref()).unwrap();
                let (first, stride) = senders.cnts(&Config::from_options(options).unwrap().stream);
                for own in 0..senders.own_heaps(total) {
                    prop_assert!(heaps.insert(rank.nth(own)));
                    prop_assert!(cnts.insert(first + own * stride));
                }
            }
            prop_assert!(heaps.into_iter().eq(0..total));
            prop_assert!(cnts.into_iter().eq((0..total).map(|heap| start + heap * step)));
        }
    }
}
