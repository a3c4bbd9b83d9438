//! Which of several addresses takes the next message: the less loaded of two that chance picks.
//!
//! Two random choices come close to picking the least loaded of all and, unlike that, do not send every worker to the same
//! address at the same moment (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). Pure: loads and
//! chance are handed in.

/// A place among `loads`, by two random choices over the ones that can be used (`Some`); `None` if none can.
pub fn choose<I>(loads: I, random: u64) -> Option<usize>
where
    I: Iterator<Item = Option<u32>> + Clone,
{
    let usable = || loads.clone().enumerate().filter_map(|(at, load)| Some((at, load?)));
    let count = u32::try_from(usable().count()).ok()?;
    let (first, second) = match count {
        0 => return None,
        1 => return usable().next().map(|(at, _)| at),
        // The two halves of one random number are two random numbers; the second skips the first.
        _ => (below((random >> 32) as u32, count), below(random as u32, count - 1)),
    };
    let second = if second >= first { second + 1 } else { second };
    let at = |nth: u32| usable().nth(nth as usize);
    let ((first, first_load), (second, second_load)) = (at(first)?, at(second)?);
    // Of equals the first, which is as random as the second.
    Some(if second_load < first_load { second } else { first })
}

/// A random number scaled to `0..bound` (Lemire's multiplication; the bias is below `bound / 2^32`).
fn below(random: u32, bound: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}

/// Chance that is good enough for balancing, and for nothing that must not be guessed: xorshift64*.
#[derive(Clone, Copy, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From a seed, any.
    pub fn new(seed: u64) -> Self {
        // The generator stays at zero for ever; every other state is as good as the next.
        Self(seed | 1)
    }

    /// The next number, and the generator behind it.
    pub fn next(self) -> (u64, Self) {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d), Self(x))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hands out `rounds` messages that never end.
    fn spread(loads: &mut [Option<u32>], rounds: u32, seed: u64) {
        let mut chance = Chance::new(seed);
        for _ in 0..rounds {
            let (random, next) = chance.next();
            chance = next;
            let at = choose(loads.iter().copied(), random).expect("one can be used");
            *loads[at].as_mut().expect("only what can be used is chosen") += 1;
        }
    }

    #[test]
    fn what_cannot_be_used_is_not_chosen() {
        assert_eq!(choose([None, None].into_iter(), 7), None);
        assert_eq!(choose(std::iter::empty(), 7), None);
        for random in [0, 1, u64::MAX, u64::MAX << 32, u64::from(u32::MAX)] {
            assert_eq!(choose([None, Some(9), None].into_iter(), random), Some(1));
            assert_eq!(choose([Some(9), None, Some(3)].into_iter(), random), Some(2), "of two the less loaded");
        }
    }

    #[test]
    fn equals_share_alike() {
        let mut counts = [0_u32; 3];
        let mut chance = Chance::new(1);
        for _ in 0..30_000 {
            let (random, next) = chance.next();
            chance = next;
            counts[choose([Some(0); 3].into_iter(), random).expect("usable")] += 1;
        }
        assert!(counts.iter().all(|count| (9_400..10_600).contains(count)), "{counts:?}");
    }

    proptest! {
        /// However many there are and whichever of them cannot be used, the loads of the others stay close together.
        #[test]
        fn loads_stay_close(usable in proptest::collection::vec(any::<bool>(), 1..12), seed in any::<u64>()) {
            prop_assume!(usable.contains(&true));
            let mut loads: Vec<Option<u32>> = usable.iter().map(|is_usable| is_usable.then_some(0)).collect();
            spread(&mut loads, 2_000, seed);
            let used = || loads.iter().flatten();
            prop_assert_eq!(used().sum::<u32>(), 2_000);
            let gap = used().max().expect("some") - used().min().expect("some");
            prop_assert!(gap <= 12, "{:?}", loads);
        }
    }
}
