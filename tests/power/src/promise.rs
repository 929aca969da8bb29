//! What was promised to whom, and whether it was kept.

use std::collections::HashSet;

use crate::collector::Collector;

/// Events that were given to the buffer, by number.
#[derive(Debug, Default)]
pub struct Promises {
    /// Whether event n was answered.
    answered: Vec<bool>,
}

fn event(n: usize) -> String {
    format!(r#"{{"event":{n},"fill":"{}"}}"#, "x".repeat(n % 97))
}

impl Promises {
    /// The next `count` events.
    pub fn make(&mut self, count: usize) -> Vec<String> {
        let from = self.answered.len();
        self.answered.resize(from + count, false);
        (from..from + count).map(event).collect()
    }

    /// The last `count` that were made are answered.
    pub fn answer(&mut self, count: usize) {
        let from = self.answered.len() - count;
        self.answered[from..].fill(true);
    }

    /// All that were made from the `from`-th on are as good as answered.
    pub fn answer_since(&mut self, from: usize) {
        self.answered[from..].fill(true);
    }

    pub fn made(&self) -> usize {
        self.answered.len()
    }

    fn numbers(collector: &Collector) -> Vec<usize> {
        let number = |event: &str| event.strip_prefix(r#"{"event":"#)?.split(',').next()?.parse().ok();
        let known = |text: &str| number(text).filter(|&n| event(n) == text);
        collector.events().into_iter().map(|text| known(text).unwrap_or_else(|| panic!("nobody made {text}"))).collect()
    }

    /// Every answered event is there; every event at most once; all in order.
    pub fn assert_kept(&self, collector: &Collector) {
        let numbers = Self::numbers(collector);
        assert!(numbers.is_sorted_by(|a, b| a < b), "once and in order: {numbers:?}");
        let there: HashSet<usize> = numbers.into_iter().collect();
        let lost: Vec<usize> = (0..self.answered.len()).filter(|n| self.answered[*n] && !there.contains(n)).collect();
        assert!(lost.is_empty(), "answered and lost: {lost:?} of {}", self.answered.len());
    }

    /// As [`Promises::assert_kept`], where records may be rehomed: answered ones that are not there.
    pub fn lost(&self, collector: &Collector) -> Vec<usize> {
        let there: HashSet<usize> = Self::numbers(collector).into_iter().collect();
        (0..self.answered.len()).filter(|n| self.answered[*n] && !there.contains(n)).collect()
    }

    /// Events that are there twice.
    pub fn doubled(collector: &Collector) -> Vec<usize> {
        let mut there = HashSet::new();
        Self::numbers(collector).into_iter().filter(|n| !there.insert(*n)).collect()
    }
}
