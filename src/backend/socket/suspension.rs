//! Whether to ask the kernel for something again, once it has refused.

/// When to ask again: to segment messages, or to send them without copying. Counted in posts, since a
/// clock is no part of this.
///
/// The kernel refuses for reasons that pass, such as a device that is being reconfigured, a tunnel
/// on the route or IPsec, so a refusal is never taken for good.
#[derive(Debug)]
pub(in crate::backend) struct Suspension {
    /// Posts that still go without.
    suspended: u32,
    /// Posts that the next refusal suspends it for.
    next: u32,
}

impl Suspension {
    pub(in crate::backend) fn new() -> Self {
        Self { suspended: 0, next: FIRST_SUSPENSION }
    }

    /// A post begins.
    pub(in crate::backend) fn post_begins(&mut self) {
        self.suspended = self.suspended.saturating_sub(1);
    }

    pub(in crate::backend) fn is_suspended(&self) -> bool {
        self.suspended > 0
    }

    /// The kernel refused, and took the same without.
    pub(in crate::backend) fn refused(&mut self) {
        self.suspended = self.next;
        self.next = (self.next * 2).min(LONGEST_SUSPENSION);
    }

    /// The kernel did it.
    pub(in crate::backend) fn accepted(&mut self) {
        self.next = FIRST_SUSPENSION;
    }
}

/// With batches of 1 MiB at 10 Gbit/s, 50 ms.
const FIRST_SUSPENSION: u32 = 64;
/// With such batches, 3 s: a message in vain every now and then costs nothing.
const LONGEST_SUSPENSION: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn posts_until_asked(suspension: &mut Suspension) -> u32 {
        (0..)
            .find(|_| {
                suspension.post_begins();
                !suspension.is_suspended()
            })
            .unwrap()
    }

    #[test]
    fn a_refusal_is_never_for_good() {
        let mut suspension = Suspension::new();
        assert!(!suspension.is_suspended());
        for expected in [64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096] {
            suspension.refused();
            assert!(suspension.is_suspended());
            assert_eq!(posts_until_asked(&mut suspension), expected - 1);
        }
        suspension.accepted();
        suspension.refused();
        assert_eq!(posts_until_asked(&mut suspension), FIRST_SUSPENSION - 1);
    }
}
