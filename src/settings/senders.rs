//! Many senders that make up one stream: which share of it is this one's.

use std::num::NonZeroU32;

use super::keys::{HEAPS, RANK, RANKS, SHARE, TO};
use super::{Key, Row, Section, Settings, SettingsError, ShareKind, StreamSettings};

pub(super) const SECTION: Section<Settings> = Section {
    name: "senders",
    title: "Many senders",
    settings: &[
        Row::optional(
            SHARE,
            "share",
            "heaps|destinations|files",
            "Send a share of the stream: every Nth heap, destinations with their heaps, or files",
            "all of it, or heaps with --ranks",
            |it| &mut it.senders.share,
        )
        .choice(),
        Row::optional(
            RANK,
            "rank",
            "N",
            "Which of the senders this is, from 0",
            "with --share, the launcher's: Open MPI, PMIx, PMI, Slurm, Kubernetes",
            |it| &mut it.senders.rank,
        )
        .number(u32::MAX as u64),
        Row::optional(
            RANKS,
            "ranks",
            "N",
            "How many senders there are",
            "with --share, as the launcher says",
            |it| &mut it.senders.ranks,
        )
        .number(u32::MAX as u64),
        Row::optional(
            Key::new("senders.stop_heap"),
            "stop_heap",
            "BOOL",
            "End with a stop heap, at which receivers end",
            "true, but false where several senders share a destination",
            |it| &mut it.senders.stop_heap,
        )
        .switch(),
    ],
};

/// Which share of the stream is this sender's, where there are several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendersSettings {
    /// What is shared; `None` is nothing, or heaps where there are ranks.
    pub share: Option<ShareKind>,
    /// Which of the senders this is, from 0.
    pub rank: Option<u32>,
    /// How many senders there are, at least 1.
    pub ranks: Option<u32>,
    /// Whether the stream ends with a stop heap; `None` is yes, unless several senders share a
    /// destination.
    pub stop_heap: Option<bool>,
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

impl SendersSettings {
    /// Takes from a launcher's environment what was not said, if the stream is to be shared.
    /// `variable` looks a variable up.
    ///
    /// # Errors
    ///
    /// A variable that is no number, or a rank without the number of ranks.
    pub fn adopt(
        &mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(), SettingsError> {
        // A batch script of Slurm, too, has the rank of one of many tasks: nothing is shared unless
        // that is asked for.
        let shared = self.share.is_some() || self.ranks.is_some();
        if !shared || (self.rank.is_some() && self.ranks.is_some()) {
            return Ok(());
        }
        let value = |name: &'static str, key: Key| match variable(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                let hint = "a launcher is to set it to a number; give this setting instead";
                SettingsError::unusable(key, format_args!("{name}={text}"), hint)
            }),
        };
        for (launcher, rank, ranks) in LAUNCHERS {
            let Some(found) = value(rank, RANK)? else { continue };
            let size = ranks.map_or(Ok(None), |ranks| value(ranks, RANKS))?;
            self.rank = self.rank.or(Some(found));
            self.ranks = self.ranks.or(size);
            return match self.ranks {
                Some(_) => Ok(()),
                None => Err(SettingsError::missing(
                    RANKS,
                    format!(
                        "{launcher} says which sender this is ({found}), not how many there are"
                    ),
                )),
            };
        }
        Ok(())
    }

    /// What is shared, and this sender's place; `None` if it sends the whole stream.
    fn place(&self) -> Option<(ShareKind, Rank)> {
        let rank = Rank::new(self.rank?, self.ranks?)?;
        Some((self.share.unwrap_or(ShareKind::Heaps), rank))
    }

    /// This sender's share of what is dealt out by `kind`; `None` where that is not shared.
    pub fn share_of(&self, kind: ShareKind) -> Option<Rank> {
        self.place().filter(|(shared, _)| *shared == kind).map(|(_, rank)| rank)
    }

    /// How heaps are dealt out, if they are: in turn to senders, be it that their destinations are.
    pub fn heaps(&self) -> Option<Rank> {
        self.share_of(ShareKind::Heaps).or(self.share_of(ShareKind::Destinations))
    }

    /// Whether the stream ends with a stop heap.
    pub fn stops(&self) -> bool {
        let alone = self
            .place()
            .is_none_or(|(kind, rank)| kind == ShareKind::Destinations || rank.size() == 1);
        self.stop_heap.unwrap_or(alone)
    }

    /// The cnt of this sender's first heap, and from one of its heaps to the next: those of all senders
    /// interleave, and none occurs twice.
    pub fn cnts(&self, stream: &StreamSettings) -> (u64, u64) {
        let (start, step) = (stream.cnt_start, stream.cnt_step);
        let (index, size) = self.place().map_or((0, 1), |(_, rank)| (rank.index(), rank.size()));
        (start.wrapping_add(step.wrapping_mul(index.into())), step.wrapping_mul(size.into()))
    }

    /// How many of `total` heaps, which all send together, are this sender's.
    pub fn own_heaps(&self, total: u64) -> u64 {
        self.heaps().map_or(total, |rank| rank.share_of(total))
    }

    /// How many of `total` destinations are this sender's.
    pub(crate) fn destinations(&self, total: u64) -> u64 {
        self.share_of(ShareKind::Destinations).map_or(total, |rank| rank.share_of(total))
    }

    pub(super) fn check(&self, settings: &Settings) -> Result<(), SettingsError> {
        match (self.rank, self.ranks) {
            (None, None) if self.share.is_none() => return Ok(()),
            (None, ranks) => {
                let given = if ranks.is_some() { RANKS } else { SHARE };
                let hint = format!(
                    "{given} needs to know which sender this is: give its number, from 0, or start it by \
                     a launcher (mpirun, srun, a Kubernetes indexed job) with {SHARE}"
                );
                return Err(SettingsError::missing(RANK, hint));
            }
            (Some(_), None) => {
                let hint = format!("{RANK} needs to know how many senders there are");
                return Err(SettingsError::missing(RANKS, hint));
            }
            (Some(_), Some(0)) => {
                return Err(SettingsError::unusable(RANKS, 0, "give 1 or more"));
            }
            (Some(index), Some(size)) if index >= size => {
                let hint = format!("ranks count from 0: of {size}, the last is {}", size - 1);
                return Err(SettingsError::unusable(RANK, index, hint));
            }
            _ => {}
        }
        self.check_shares(settings)
    }

    /// Whether there is as much as is to be shared.
    fn check_shares(&self, settings: &Settings) -> Result<(), SettingsError> {
        let Some((kind, rank)) = self.place() else { return Ok(()) };
        let size = u64::from(rank.size());
        let destinations: u64 =
            settings.stream.to.iter().map(|endpoint| u64::from(endpoint.count())).sum();
        if kind == ShareKind::Destinations && !destinations.is_multiple_of(size) {
            let hint = format!(
                "{destinations} destinations go to {size} senders in turn; give a multiple of {size}"
            );
            return Err(SettingsError::unusable(TO, destinations, hint));
        }
        let few = settings.heap.count.filter(|&count| kind != ShareKind::Files && count < size);
        match few {
            Some(count) => {
                let hint =
                    format!("it is what all {size} senders send together; give {size} or more");
                Err(SettingsError::unusable(HEAPS, count, hint))
            }
            None => Ok(()),
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
