//! The agent's buffer on a disk that loses power: what was answered arrives once and in order, whatever the cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use edgetrail_power::agent::{self, Agent};
use edgetrail_power::collector::{Collector, is_unbroken};
use edgetrail_power::promise::Promises;
use edgetrail_power::rng::Rng;
use edgetrail_power::{Disk, FAULTS, Fault, seeds};

/// How often records are brought before the buffer counts as stuck.
const TRIES_MAX: usize = 8;

/// What one agent lives through, over restarts.
struct Life {
    disk: Disk,
    rng: Rng,
    collector: Collector,
    promises: Promises,
    /// Runs that ended without an order after something had been answered.
    broken: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        agent::join(&disk).unwrap();
        Self { disk, rng: Rng::new(seed), collector: Collector::default(), promises: Promises::default(), broken: 0 }
    }

    /// One process: starts, commits, sends, for `steps` steps or until the power fails. True if it ended in order.
    fn run(&mut self, steps: usize, orderly: bool) -> bool {
        let agent = match Agent::start(&self.disk) {
            Ok(agent) => agent,
            Err(error) => {
                assert!(!self.disk.is_powered(), "with power on the buffer opens: {error:?}");
                return false;
            }
        };
        let mut answered = false;
        let mut resumed = false;
        for _ in 0..steps {
            if !self.disk.is_powered() {
                break;
            }
            answered |= self.step(&agent, &mut resumed);
        }
        // One that was asked to end in order and lost its power has lost nothing, whether its close is durable or not.
        let asked = orderly && self.disk.is_powered();
        let closed = agent.stop(asked);
        if !asked && answered {
            self.broken += 1;
        }
        closed
    }

    fn step(&mut self, agent: &Agent, resumed: &mut bool) -> bool {
        match self.rng.below(5) {
            0 => {
                // An error here is the power's: the next step sees it.
                *resumed = *resumed || self.collector.resume(&agent.shelf).is_ok();
                if *resumed {
                    let _cut = self.collector.take(&agent.shelf, &mut self.rng).is_err();
                }
                false
            }
            choice => {
                let most = if self.rng.one_in(60) { 1500 } else { 6 };
                let count = 1 + self.rng.below(most);
                let records = self.promises.make(count);
                let answered = agent.commit(&records, choice == 1);
                if answered {
                    self.promises.answer(count);
                }
                answered
            }
        }
    }

    /// The last process: nothing fails any more, everything goes out, promises are looked at.
    fn end(mut self) -> Self {
        let agent = Agent::start(&self.disk).unwrap();
        let records = self.promises.make(1);
        assert!(agent.commit(&records, true));
        self.promises.answer(1);
        self.collector.resume(&agent.shelf).unwrap();
        self.collector.take(&agent.shelf, &mut self.rng).unwrap();
        assert!(agent.stop(true));
        self.promises.assert_kept(&self.collector);
        self
    }

    fn assert_not_rolled_back(&self) {
        let opens = &self.collector.opens;
        assert!(opens.iter().all(is_unbroken), "nothing sealed was lost: {opens:?}");
    }

    /// What holds wherever a disk that honours fsync lost its power.
    fn assert_unbroken(&self) {
        self.assert_not_rolled_back();
        let unclean = self.collector.gaps("unclean-restart");
        assert!(unclean >= self.broken, "{} runs broke off, {unclean} are reported", self.broken);
        assert_eq!(self.collector.gaps("buffer-rollback") + self.collector.gaps("buffer-damaged"), 0);
    }
}

/// Several runs, each cut at a random call.
fn cut_at_random(seed: u64) {
    let mut life = Life::new(seed);
    for _ in 0..1 + life.rng.below(4) {
        let calls = 1 + life.rng.below(260) as u64;
        life.disk.cut_after(calls);
        let (steps, orderly) = (5 + life.rng.below(25), life.rng.one_in(3));
        life.run(steps, orderly);
        life.disk.reboot();
    }
    life.end().assert_unbroken();
}

#[test]
fn what_was_answered_outlives_power_cuts_at_random_calls() {
    seeds::each("buffer, random power cuts", seeds::chosen(600), 2, cut_at_random);
}

#[test]
fn what_was_answered_outlives_a_power_cut_at_every_call() {
    const SEED: u64 = 7;
    let batches = usize::try_from(seeds::variable("EDGETRAIL_WALK_BATCHES").unwrap_or(8)).unwrap();
    // A step in five sends; of the others one in four seals.
    let steps = batches * 5;
    let mut whole = Life::new(SEED);
    let before = whole.disk.calls();
    whole.run(steps, true);
    let calls = whole.disk.calls() - before;
    whole.end().assert_unbroken();
    let walk = seeds::variable("EDGETRAIL_SEED").map_or(1..calls + 1, |call| call..call + 1);
    seeds::each("buffer, a power cut at every call", walk, 2, |call| {
        let mut life = Life::new(SEED);
        life.disk.cut_after(call);
        life.run(steps, true);
        life.disk.reboot();
        life.end().assert_unbroken();
    });
}

/// A call fails once and the process goes on; later the power fails too.
fn fail_then_cut(fault: Fault, call: u64, case: u64) {
    let mut life = Life::new(case);
    life.disk.fail_after(call, fault);
    if let Ok(agent) = Agent::start(&life.disk) {
        let from = life.promises.made();
        let mut resumed = false;
        let mut after = 0;
        // Steps behind the fault: what a failed sync left in the page cache alone must not be built upon.
        let more = if case.is_multiple_of(2) { 6 } else { 0 };
        while (life.disk.has_fault_ahead() || after < more) && life.promises.made() < 20_000 {
            after += usize::from(!life.disk.has_fault_ahead());
            life.step(&agent, &mut resumed);
            // Pull sources don't look whether the buffer is open just now.
            for _ in 0..life.rng.below(3) {
                let records = life.promises.make(1);
                assert!(agent.hand_over(&records));
            }
        }
        // Nothing was killed: what is answered now has everything before it that was ever handed over.
        let taken = (0..TRIES_MAX).any(|_| agent.commit(&life.promises.make(1), false));
        assert!(taken, "one failing call, and the buffer takes nothing any more");
        life.promises.answer_since(from);
        if more == 0 {
            life.disk.kill();
        }
        agent.stop(false);
    }
    life.run(6, false);
    life.disk.reboot();
    let life = life.end();
    life.assert_not_rolled_back();
}

#[test]
fn what_was_answered_outlives_a_failing_call_and_a_power_cut_after_it() {
    let cases = seeds::chosen(60);
    // A failed buffer is opened again after a second: many wait side by side.
    seeds::each("buffer, one failing call", cases, 24, |case| {
        let fault = FAULTS[usize::try_from(case / 2 % 4).unwrap()];
        fail_then_cut(fault, 1 + case * 5 % 300 + case / 60, case);
    });
}
