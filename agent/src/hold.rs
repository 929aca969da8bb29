//! One act, one record: a lower source waits for a higher one that makes the same record.
//!
//! Pure: `now` is an argument, the state is a value that the buffer stores with the commit. What is held is not
//! committed, and its source's cursor has not moved: a crash reads it again and decides the same.

use crate::normalize::Draft;
use crate::observation::SourceName;

/// What one observation made, on its way to the commit. `rest` travels with it: cursor, answer, counters.
#[derive(Debug)]
pub struct Parcel<T> {
    pub source: SourceName,
    pub drafts: Vec<Draft>,
    pub rest: T,
}

/// A parcel that is to be committed now.
#[derive(Debug)]
pub struct Released<T> {
    pub source: SourceName,
    pub drafts: Vec<Draft>,
    /// Drafts turned away because a higher source recorded the act: counted observed and refused.
    pub refused: u64,
    pub rest: T,
}

/// Holds parcels of lower sources for at most [`HOLD_NS_MAX`]; keeps the order within each source.
#[derive(Debug)]
pub struct Hold<T> {
    running: Vec<SourceName>,
    held: Vec<Parcel<T>>,
}

/// Longest time an observation is held, nanoseconds. Source: DESIGN §2.
pub const HOLD_NS_MAX: u64 = 500_000_000;

/// Match keys are remembered this long, nanoseconds. Source: DESIGN §2.
pub const REMEMBER_NS: u64 = 60_000_000_000;

impl<T> Hold<T> {
    /// `running` are the sources that are on; `state` is what [`Hold::state`] last gave to the buffer.
    pub fn new(running: Vec<SourceName>, state: Option<&[u8]>) -> Self {
        let _ = state;
        Self { running, held: Vec::new() }
    }

    /// Takes a parcel; gives what is to be committed now, in order. `now` in Unix nanoseconds.
    pub fn offer(&mut self, now: u64, parcel: Parcel<T>) -> Vec<Released<T>> {
        let _ = (now, &self.running);
        vec![Released { source: parcel.source, drafts: parcel.drafts, refused: 0, rest: parcel.rest }]
    }

    /// What has waited long enough.
    pub fn due(&mut self, now: u64) -> Vec<Released<T>> {
        let _ = now;
        Vec::new()
    }

    /// When [`Hold::due`] has something to give next, Unix nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        None
    }

    /// Everything held, at an orderly stop.
    pub fn drain(&mut self) -> Vec<Released<T>> {
        self.held.drain(..).map(|p| Released { source: p.source, drafts: p.drafts, refused: 0, rest: p.rest }).collect()
    }

    /// The match keys of the last 60 s, to be stored with the commit of what was released; `None` if unchanged since the last call.
    pub fn state(&mut self) -> Option<Vec<u8>> {
        None
    }
}
