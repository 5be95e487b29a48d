//! Numbers that look random and can be had again.

/// xorshift64 (Marsaglia, "Xorshift RNGs", 2003). Good enough to pick moments and to fill files that do not compress.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed. Seeds that differ in their lowest bit only are the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // 0 would stay 0 for ever.
        Self(seed | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The lowest bits repeat soonest.
        usize::try_from(self.bits() >> 16).unwrap_or_default().checked_rem(bound).unwrap_or_default()
    }

    /// True once in `times`, on average.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these; `None` where there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// A number from 0 up to, but not including, 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_of_a_few_is_picked() {
        let mut random = Random::new(7);
        let picked: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| random.pick(&[1, 2, 3])).collect();
        assert_eq!(picked.len(), 3);
        assert_eq!(random.pick::<u8>(&[]), None);
    }

    #[test]
    fn fractions_spread_and_repeat() {
        let sample = || {
            let mut random = Random::new(7);
            (0..1000).map(|_| random.fraction()).collect::<Vec<_>>()
        };
        let fractions = sample();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let below = fractions.iter().filter(|fraction| **fraction < 0.5).count();
        assert!((400..600).contains(&below), "{below} of 1000 are below one half");
        assert_eq!(fractions, sample());
    }
}
