//! What may happen to a host and its collector, and the schedules that are drawn of it.

use edgetrail_tests::chance::Chance;

/// Steps of one schedule.
const STEPS: u64 = 14;

/// What may happen between two commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Commit,
    Sync,
    Kill,
    Close,
    Keep,
    KeepClosed,
    Restore,
    LoseBuffer,
    LoseKeyFile,
    LoseTail,
    RestartCollector,
    KeepCollector,
    RestoreCollector,
    /// Over a restart, by this many seconds.
    ClockForward(u64),
    ClockBack(u64),
    /// Two hold the host's state and act, until they are found out; then the rightful one joins again.
    Clone,
}

impl Step {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        match chance.below(29) {
            0..=7 => Self::Commit,
            8..=12 => Self::Sync,
            13 | 14 => Self::Kill,
            15 => Self::Close,
            16 => Self::Keep,
            17 => Self::Restore,
            18 => Self::LoseBuffer,
            19 => Self::LoseKeyFile,
            20 => Self::LoseTail,
            21 => Self::RestartCollector,
            22 => Self::KeepCollector,
            23 => Self::RestoreCollector,
            25 => Self::KeepClosed,
            26 => Self::Restore,
            24 => Self::ClockForward([90, 86_400][usize::try_from(chance.below(2)).unwrap()]),
            27 => Self::ClockBack([90, 86_400][usize::try_from(chance.below(2)).unwrap()]),
            _ => Self::Clone,
        }
    }

    /// As a schedule prints itself.
    fn parse(text: &str) -> Self {
        let (name, by) = text.trim_end_matches(')').split_once('(').unwrap_or((text, "0"));
        let by = by.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let all = [
            Self::Commit,
            Self::Sync,
            Self::Kill,
            Self::Close,
            Self::Keep,
            Self::KeepClosed,
            Self::Restore,
            Self::LoseBuffer,
            Self::LoseKeyFile,
            Self::LoseTail,
            Self::RestartCollector,
            Self::KeepCollector,
            Self::RestoreCollector,
            Self::ClockForward(by),
            Self::ClockBack(by),
            Self::Clone,
        ];
        let named = |step: &Self| format!("{step:?}").split('(').next() == Some(name);
        all.into_iter().find(named).unwrap_or_else(|| panic!("{text} is no step"))
    }
}

/// The steps of a seed, or those that `EDGETRAIL_SCHEDULE` lists, as a schedule prints itself: to make a failing one shorter.
pub(crate) fn schedule(chance: &mut Chance) -> Vec<Step> {
    match std::env::var("EDGETRAIL_SCHEDULE") {
        Ok(steps) => listed(&steps),
        Err(_) => (0..STEPS).map(|_| Step::draw(chance)).collect(),
    }
}

/// Steps as a schedule prints itself, without its brackets.
pub(crate) fn listed(steps: &str) -> Vec<Step> {
    steps.split(',').map(str::trim).map(Step::parse).collect()
}
