//! Arithmetic on a stream's counters: what a chunk adds, what a header holds, what moves to a successor. docs/protocol.md §3.3.

use edgetrail_proto::chain::Counters;

/// Both together.
pub(super) fn plus(a: Counters, b: Counters) -> Counters {
    Counters {
        observed: a.observed.saturating_add(b.observed),
        refused: a.refused.saturating_add(b.refused),
        own: a.own.saturating_add(b.own),
        lost_agent: a.lost_agent.saturating_add(b.lost_agent),
        lost_source: a.lost_source.saturating_add(b.lost_source),
    }
}

/// What `a` has beyond `b`.
pub(super) fn minus(a: Counters, b: Counters) -> Counters {
    Counters {
        observed: a.observed.saturating_sub(b.observed),
        refused: a.refused.saturating_sub(b.refused),
        own: a.own.saturating_sub(b.own),
        lost_agent: a.lost_agent.saturating_sub(b.lost_agent),
        lost_source: a.lost_source.saturating_sub(b.lost_source),
    }
}

/// Without refusals, which records never carry: what chunks and headers count alike.
pub(super) fn of_records(counters: Counters) -> Counters {
    Counters { observed: counters.observed.saturating_sub(counters.refused), refused: 0, ..counters }
}

/// As five big-endian integers, the way a row keeps them.
pub(super) fn encode(counters: Counters) -> [u8; 40] {
    let Counters { observed, refused, own, lost_agent, lost_source } = counters;
    let mut bytes = [0; 40];
    for (place, value) in bytes.chunks_exact_mut(8).zip([observed, refused, own, lost_agent, lost_source]) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    bytes
}

/// `None` for anything but forty bytes.
pub(super) fn decode(bytes: &[u8]) -> Option<Counters> {
    let bytes: &[u8; 40] = bytes.try_into().ok()?;
    let mut values = bytes.chunks_exact(8).map(|place| place.try_into().map(u64::from_be_bytes).unwrap_or_default());
    let mut next = || values.next().unwrap_or_default();
    Some(Counters { observed: next(), refused: next(), own: next(), lost_agent: next(), lost_source: next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_survive_a_row() {
        let counters = Counters { observed: 1, refused: u64::MAX, own: 3, lost_agent: 4, lost_source: 5 };
        assert_eq!(decode(&encode(counters)), Some(counters));
        assert_eq!(decode(b"short"), None);
    }
}
