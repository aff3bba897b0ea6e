//! Queues as destinations: what comes after the GID.

use std::fmt;
use std::str::FromStr;

use super::number;
use crate::backend::verbs::QueueAddress;

/// The part of `GID/QPN[/QKEY[/LID]]` after the GID. Numbers are decimal, or hexadecimal after `0x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) number: u32,
    pub(super) key: u32,
    pub(super) lid: u16,
}

impl FromStr for Queue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        let mut next = |default: Option<u32>| match (parts.next(), default) {
            (Some(text), _) => number(text).and_then(|it| it.try_into().ok()),
            (None, default) => default,
        };
        let number = next(None)
            .filter(|number| (FIRST..=QueueAddress::MULTICAST).contains(number))
            .ok_or("after the GID goes the number of a queue pair, 2 to 0xffffff")?;
        let key = next(Some(QueueAddress::KEY))
            .ok_or("after its number goes the queue's key, of 32 bits, such as 0x1234567")?;
        let lid = next(Some(0))
            .and_then(|lid| u16::try_from(lid).ok())
            .ok_or("after its key goes the LID of its port, of 16 bits, in an InfiniBand subnet")?;
        match parts.next() {
            None => Ok(Self { number, key, lid }),
            Some(_) => Err("write GID/QPN, GID/QPN/QKEY or GID/QPN/QKEY/LID"),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.number, self.key)?;
        match self.lid {
            0 => Ok(()),
            lid => write!(f, "/{lid:#x}"),
        }
    }
}

/// Numbers 0 and 1 are those of the subnet's management (InfiniBand Architecture, 3.9).
const FIRST: u32 = 2;
