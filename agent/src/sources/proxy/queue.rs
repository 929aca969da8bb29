//! The way from requests to the clerk: bounded in bytes, a place reserved before a request is passed on.
//!
//! A request that has a place has its record: the place is held until the record is committed. While the queue is full and
//! the buffer takes records, a request waits for a place, at most [`PLACE_WAIT`]: requests come no faster than they are
//! recorded. One that has none and is passed on all the same is counted here, exactly, until a gap says so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::exchange::Exchange;
use crate::clock::unix_ns;

/// Whether the buffer takes records now.
pub type HasRoom = Arc<dyn Fn() -> bool + Send + Sync>;

/// The sending end.
#[derive(Clone)]
pub(super) struct Queue {
    slots: mpsc::Sender<Ended>,
    units: Arc<Semaphore>,
    missed: Arc<Mutex<Missed>>,
    has_room: HasRoom,
}

/// A place for one exchange: taken before it is passed on, used when it has ended.
#[derive(Debug)]
pub(super) struct Place {
    slot: OwnedPermit<Ended>,
    room: Room,
}

/// What an exchange holds of the queue's bytes.
#[derive(Debug)]
pub(crate) struct Room(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

/// An exchange that has ended, with whoever waits for its record.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exchange: Exchange,
    pub(super) waiter: Option<oneshot::Sender<()>>,
}

/// Requests that were passed on without a place since the last gap, or refused for want of one.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Passed on without a place.
    pub(super) passed: Count,
    /// Whether the buffer took nothing meanwhile: why the queue was full.
    pub(super) was_full: bool,
    /// Not passed on: nothing happened that would be missing.
    pub(super) refused: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) count: u64,
    /// Unix nanoseconds of the first and the last.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// How long a request waits for a place while commits go on: a few of them, each with what came in 100 ms.
const PLACE_WAIT: Duration = Duration::from_millis(500);

/// Bytes are counted in units of this many.
const UNIT_BYTES: usize = 256;

/// What an exchange takes beside its texts, bytes: its own members and what allocation adds.
const OVERHEAD_BYTES: usize = 1536;

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("units", &self.units.available_permits()).finish_non_exhaustive()
    }
}

/// A queue of so many bytes, and the clerk's end of it.
pub(super) fn queue(bytes_max: u64, has_room: HasRoom) -> (Queue, mpsc::Receiver<Ended>) {
    let units = usize::try_from(bytes_max).unwrap_or(usize::MAX) / UNIT_BYTES;
    let units = units.clamp(1, u32::MAX as usize >> 1);
    // Every place takes at least the overhead's units: slots never run out before them.
    let slots = (units * UNIT_BYTES / OVERHEAD_BYTES).max(1);
    let (sender, receiver) = mpsc::channel(slots);
    let missed = Arc::new(Mutex::new(Missed::default()));
    (Queue { slots: sender, units: Arc::new(Semaphore::new(units)), missed, has_room }, receiver)
}

impl Queue {
    /// A place for an exchange whose texts have so many bytes; `None` where the queue is full and stays so.
    pub(super) async fn place(&self, bytes: usize) -> Option<Place> {
        let units = u32::try_from((bytes + OVERHEAD_BYTES).div_ceil(UNIT_BYTES)).ok()?;
        let room = match Arc::clone(&self.units).try_acquire_many_owned(units) {
            Ok(room) => room,
            Err(_) if !self.has_room() => return None,
            // In turn: who came first goes on first.
            Err(_) => tokio::time::timeout(PLACE_WAIT, Arc::clone(&self.units).acquire_many_owned(units)).await.ok()?.ok()?,
        };
        let slot = self.slots.clone().try_reserve_owned().ok()?;
        Some(Place { slot, room: Room(room) })
    }

    /// Whether the buffer takes records now.
    pub(super) fn has_room(&self) -> bool {
        (self.has_room)()
    }

    /// Counts a request that is passed on without a place. True for the first since the last gap.
    pub(super) fn miss(&self) -> bool {
        let is_full = !self.has_room();
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.was_full |= is_full;
        missed.passed.add_many(1)
    }

    /// Counts a request that is refused. True for the first.
    pub(super) fn refuse(&self) -> bool {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).refused.add_many(1)
    }

    /// What was counted, shared with the clerk.
    pub(super) fn missed(&self) -> Arc<Mutex<Missed>> {
        Arc::clone(&self.missed)
    }
}

impl Count {
    /// True where nothing was counted before.
    pub(super) fn add_many(&mut self, more: u64) -> bool {
        let is_first = self.count == 0;
        self.count = self.count.saturating_add(more);
        self.to = unix_ns();
        if is_first {
            self.from = self.to;
        }
        is_first
    }
}

impl Missed {
    pub(super) const fn is_empty(&self) -> bool {
        self.passed.count == 0 && self.refused.count == 0
    }
}

impl Place {
    /// Gives the exchange to the clerk. Its room goes with it.
    pub(super) fn fill(self, mut exchange: Exchange, waiter: Option<oneshot::Sender<()>>) {
        exchange._room = Some(self.room);
        self.slot.send(Ended { exchange, waiter });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A queue of one place, and whether the buffer takes records.
    fn narrow() -> (Queue, mpsc::Receiver<Ended>, Arc<AtomicBool>) {
        let has_room = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&has_room);
        let (queue, inbox) = queue(OVERHEAD_BYTES as u64, Arc::new(move || told.load(Ordering::SeqCst)));
        (queue, inbox, has_room)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_place_while_the_buffer_takes_records() {
        let (queue, _inbox, _) = narrow();
        let first = queue.place(0).await.expect("an empty queue has a place");
        let mut second = std::pin::pin!(queue.place(0));
        tokio::select! {
            biased;
            _ = &mut second => panic!("there is one place, and it is taken"),
            () = tokio::time::sleep(PLACE_WAIT / 2) => drop(first),
        }
        assert!(second.await.is_some(), "a commit has freed one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_was_said_and_not_at_all_for_a_buffer_that_is_full() {
        let (queue, _inbox, has_room) = narrow();
        let _first = queue.place(0).await.expect("an empty queue has a place");
        let began = tokio::time::Instant::now();
        assert!(queue.place(0).await.is_none());
        assert_eq!(began.elapsed(), PLACE_WAIT);
        has_room.store(false, Ordering::SeqCst);
        let began = tokio::time::Instant::now();
        assert!(queue.place(0).await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
