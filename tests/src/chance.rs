//! Chance that can be repeated: a random test of whole processes prints its seed and takes it back.

use crate::rng::Rng;
use crate::seeds::variable;

#[derive(Clone, Debug)]
pub struct Chance(Rng);

impl Chance {
    /// From `EDGETRAIL_SEED`, else another at every run; printed either way.
    pub fn from_environment() -> (Self, u64) {
        let otherwise =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let seed = number("EDGETRAIL_SEED", u64::from(otherwise));
        eprintln!("EDGETRAIL_SEED={seed}");
        (Self::new(seed), seed)
    }

    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// Less than `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.number() % bound
    }
}

/// A variable that gives a number of cycles or seeds.
pub fn number(name: &str, otherwise: u64) -> u64 {
    variable(name).unwrap_or(otherwise)
}
