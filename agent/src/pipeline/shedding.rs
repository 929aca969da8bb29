//! What is shed while the buffer has no room: counted, and said.
//!
//! The count is of records that selection had kept: exact, and already observed. A gap goes out at once after the first
//! second, then ever more seldom while it lasts, so that the buffer's reserve is enough for days, and when it is over.

use uuid::Uuid;

use crate::observation::{Cursor, GapCause, Loss, Observation, Payload, SourceName};

/// The first gap is due so long after the first record was shed, nanoseconds.
const FIRST_AFTER: u64 = 1_000_000_000;

/// At most so long between two gaps, nanoseconds.
const AFTER_MAX: u64 = 300 * 1_000_000_000;

/// Records that were shed since the last gap said so.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    source: SourceName,
    /// Not yet reported.
    count: u64,
    from: u64,
    due: u64,
    /// How long until the gap after the next.
    after: u64,
    /// Behind the last that was shed.
    cursor: Option<Cursor>,
}

impl Shedding {
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// From here on, until it is over, everything of this source is shed.
    pub(super) fn begin(&mut self, source: SourceName, now: u64) {
        self.begun.get_or_insert_with(|| {
            tracing::error!(%source, "the buffer has no room and this source can't wait: its events are shed into a gap");
            Begun { source, count: 0, from: now, due: now.saturating_add(FIRST_AFTER), after: FIRST_AFTER, cursor: None }
        });
    }

    pub(super) fn count(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.count = begun.count.saturating_add(1);
        }
    }

    /// The cursor stands where it is until what waits before it is committed.
    pub(super) fn keep_cursor(&mut self, cursor: Option<Cursor>) {
        if let (Some(begun), Some(cursor)) = (&mut self.begun, cursor) {
            begun.cursor = Some(cursor);
        }
    }

    /// When the next gap is due, Unix nanoseconds.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.begun.as_ref().filter(|begun| begun.count > 0).map(|begun| begun.due)
    }

    /// The gap that is due, with its count; none where nothing was shed since the last.
    pub(super) fn report(&mut self, now: u64, over: bool) -> Option<(Observation, u64)> {
        let begun = self.begun.as_mut()?;
        if !over && (begun.count == 0 || now < begun.due) {
            return None;
        }
        let (source, count, from) = (begun.source, begun.count, begun.from);
        let cursor = if over { begun.cursor.take() } else { None };
        begun.after = begun.after.saturating_mul(2).min(AFTER_MAX);
        (begun.count, begun.from, begun.due) = (0, now, now.saturating_add(begun.after));
        if over {
            self.begun = None;
        }
        let position = Uuid::new_v4().to_string();
        if count == 0 {
            // Only the cursor is left to say.
            let nothing = Observation { source, position, time: now, payload: Payload::Nothing, cursor, answer: None };
            return Some((nothing, 0));
        }
        let evidence = format!("the buffer had no room: {count} records of the source {source} were shed");
        let loss = Loss { cause: GapCause::BufferFull, count: Some(count), exact: true, evidence, from, to: now };
        Some((Observation { source, position, time: now, payload: Payload::Loss(loss), cursor, answer: None }, count))
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
            shedding.count();
            if let Some((_, count)) = shedding.report(now * SECOND, false) {
                said += count;
                gaps += 1;
            }
        }
        assert!((10..30).contains(&gaps), "{gaps} in an hour");
        said += shedding.report(3600 * SECOND, true).unwrap().1;
        assert_eq!(said, 3600);
        assert!(shedding.report(3601 * SECOND, true).is_none() && !shedding.has_begun());
    }

    #[test]
    fn the_cursor_moves_only_when_it_is_over() {
        let mut shedding = Shedding::default();
        shedding.begin(SourceName::Audit, 0);
        shedding.count();
        shedding.keep_cursor(Some(Cursor { key: "kernel".to_owned(), value: vec![1] }));
        assert_eq!(shedding.report(SECOND, false).unwrap().0.cursor, None);
        let (last, count) = shedding.report(2 * SECOND, true).unwrap();
        assert_eq!((last.cursor.unwrap().value, count), (vec![1], 0));
    }
}
