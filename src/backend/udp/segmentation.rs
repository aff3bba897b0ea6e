//! Whether to have the kernel segment messages, once it has refused to.

/// When to ask again. Counted in posts, since a clock is no part of this.
///
/// The kernel refuses for reasons that pass, such as a device that is being reconfigured, a tunnel
/// on the route or IPsec, so a refusal is never taken for good.
#[derive(Debug)]
pub(super) struct Segmentation {
    /// Posts that still go unsegmented.
    suspended: u32,
    /// Posts that the next refusal suspends it for.
    next: u32,
}

impl Segmentation {
    pub(super) fn new() -> Self {
        Self { suspended: 0, next: FIRST_SUSPENSION }
    }

    /// A post begins.
    pub(super) fn post_begins(&mut self) {
        self.suspended = self.suspended.saturating_sub(1);
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended > 0
    }

    /// The kernel would not segment a message whose packets it took one by one.
    pub(super) fn refused(&mut self) {
        self.suspended = self.next;
        self.next = (self.next * 2).min(LONGEST_SUSPENSION);
    }

    /// The kernel segmented a message.
    pub(super) fn accepted(&mut self) {
        self.next = FIRST_SUSPENSION;
    }
}

/// With batches of 1 MiB at 10 Gbit/s, 50 ms.
const FIRST_SUSPENSION: u32 = 64;
/// Likewise, 3 s: a message in vain every now and then costs nothing.
const LONGEST_SUSPENSION: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn posts_until_asked(segmentation: &mut Segmentation) -> u32 {
        (0..)
            .find(|_| {
                segmentation.post_begins();
                !segmentation.is_suspended()
            })
            .unwrap()
    }

    #[test]
    fn a_refusal_is_never_for_good() {
        let mut segmentation = Segmentation::new();
        assert!(!segmentation.is_suspended());
        for expected in [64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096] {
            segmentation.refused();
            assert!(segmentation.is_suspended());
            assert_eq!(posts_until_asked(&mut segmentation), expected - 1);
        }
        segmentation.accepted();
        segmentation.refused();
        assert_eq!(posts_until_asked(&mut segmentation), FIRST_SUSPENSION - 1);
    }
}
