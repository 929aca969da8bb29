//! What is shed while the buffer has no room: counted, and said.
//!
//! The count is of records that selection had kept: exact, and already observed. A gap goes out at once after the first
//! second, then ever more seldom while it lasts, so that the buffer's reserve is enough for days, and when it is over.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::observation::{Cursor, GapCause, Loss, Observation, Payload, SourceName};

/// The first gap is due so long after the first record was shed, nanoseconds.
const FIRST_AFTER: u64 = 1_000_000_000;

/// At most so long between two gaps, nanoseconds.
const AFTER_MAX: u64 = 300 * 1_000_000_000;

/// Records that were shed since the last gaps said so.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    from: u64,
    due: u64,
    /// How long until the gaps after the next.
    after: u64,
    sources: BTreeMap<SourceName, Shed>,
}

/// What was shed of one source.
#[derive(Debug, Default)]
struct Shed {
    /// Not yet reported.
    count: u64,
    /// Behind the last that was shed.
    cursor: Option<Cursor>,
}

impl Shedding {
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// From here on, until it is over, everything of sources that can't wait is shed; `source` is the first.
    pub(super) fn begin(&mut self, source: SourceName, now: u64) {
        self.begun.get_or_insert_with(|| {
            tracing::error!(%source, "the buffer has no room and this source can't wait: its events are shed into a gap");
            Begun { from: now, due: now.saturating_add(FIRST_AFTER), after: FIRST_AFTER, sources: BTreeMap::new() }
        });
    }

    pub(super) fn count(&mut self, source: SourceName) {
        if let Some(begun) = &mut self.begun {
            let shed = begun.sources.entry(source).or_default();
            shed.count = shed.count.saturating_add(1);
        }
    }

    /// The cursor stands where it is until what waits before it is committed.
    pub(super) fn keep_cursor(&mut self, source: SourceName, cursor: Option<Cursor>) {
        if let (Some(begun), Some(cursor)) = (&mut self.begun, cursor) {
            begun.sources.entry(source).or_default().cursor = Some(cursor);
        }
    }

    /// When the next gaps are due, Unix nanoseconds.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.begun.as_ref().filter(|begun| begun.sources.values().any(|shed| shed.count > 0)).map(|begun| begun.due)
    }

    /// The gaps that are due, one for each source, with their counts; none where nothing was shed since the last.
    pub(super) fn report(&mut self, now: u64, over: bool) -> Vec<(Observation, u64)> {
        let due = self.deadline();
        let Some(begun) = self.begun.as_mut() else { return Vec::new() };
        if !over && due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let from = begun.from;
        let reported = begun.sources.iter_mut().filter_map(|(source, shed)| shed.report(*source, from, now, over)).collect();
        begun.after = begun.after.saturating_mul(2).min(AFTER_MAX);
        (begun.from, begun.due) = (now, now.saturating_add(begun.after));
        if over {
            self.begun = None;
        }
        reported
    }
}

impl Shed {
    fn report(&mut self, source: SourceName, from: u64, now: u64, over: bool) -> Option<(Observation, u64)> {
        let count = std::mem::take(&mut self.count);
        let cursor = if over { self.cursor.take() } else { None };
        if count == 0 && cursor.is_none() {
            return None;
        }
        let payload = match count {
            // Only the cursor is left to say.
            0 => Payload::Nothing,
            count => {
                let evidence = format!("the buffer had no room: {count} records of the source {source} were shed");
                Payload::Loss(Loss { cause: GapCause::BufferFull, count: Some(count), exact: true, evidence, from, to: now })
            }
        };
        let position = Uuid::new_v4().to_string();
        Some((Observation { source, position, time: now, payload, cursor, answer: None }, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn gaps_are_due_at_once_and_then_ever_more_seldom_and_sum_to_what_was_shed() {
        let mut shedding = Shedding::default();
        shedding.begin(SourceName::Audit, 0);
        let (mut said, mut gaps) = (0, 0);
        for now in 0..3600 {
            shedding.count(SourceName::Audit);
            for (_, count) in shedding.report(now * SECOND, false) {
                said += count;
                gaps += 1;
            }
        }
        assert!((10..30).contains(&gaps), "{gaps} in an hour");
        said += shedding.report(3600 * SECOND, true)[0].1;
        assert_eq!(said, 3600);
        assert!(shedding.report(3601 * SECOND, true).is_empty() && !shedding.has_begun());
    }

    #[test]
    fn each_source_is_named_with_its_own_count() {
        let mut shedding = Shedding::default();
        shedding.begin(SourceName::Syslog, 0);
        for source in [SourceName::Syslog, SourceName::Vault, SourceName::Syslog] {
            shedding.count(source);
        }
        let said: Vec<_> = shedding.report(SECOND, false).into_iter().map(|(gap, count)| (gap.source, count)).collect();
        assert_eq!(said, [(SourceName::Vault, 1), (SourceName::Syslog, 2)]);
        assert!(shedding.report(9 * SECOND, true).is_empty() && !shedding.has_begun());
    }

    #[test]
    fn the_cursor_moves_only_when_it_is_over() {
        let mut shedding = Shedding::default();
        shedding.begin(SourceName::Audit, 0);
        shedding.count(SourceName::Audit);
        shedding.keep_cursor(SourceName::Audit, Some(Cursor { key: "kernel".to_owned(), value: vec![1] }));
        assert_eq!(shedding.report(SECOND, false)[0].0.cursor, None);
        let [(last, count)] = <[_; 1]>::try_from(shedding.report(2 * SECOND, true)).unwrap();
        assert_eq!((last.source, last.cursor.unwrap().value, count), (SourceName::Audit, vec![1], 0));
    }
}
