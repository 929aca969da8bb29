//! A request whose end is not known yet.
//!
//! Whoever lets go of it before (a client that went away takes its future with it) leaves a record that says so.

use std::time::Instant;

use tokio::sync::oneshot;

use super::exchange::{End, Exchange};
use super::queue::Place;
use super::tee::Passing;

/// Ends once, in a record.
#[derive(Debug)]
pub(super) struct Pending(pub(super) Option<Open>);

#[derive(Debug)]
pub(super) struct Open {
    pub(super) exchange: Exchange,
    pub(super) place: Place,
    pub(super) began: Instant,
    pub(super) passing: Passing,
    pub(super) waiter: Option<oneshot::Sender<()>>,
}

impl Pending {
    /// Its end is known.
    pub(super) fn end(mut self, end: End) {
        self.end_now(end);
    }

    /// The answer is there; what its record waits for is no longer the service's time.
    pub(super) fn timed(&mut self) {
        if let Some(open) = &mut self.0 {
            open.exchange.duration_us = micros(open.began);
        }
    }

    pub(super) fn end_now(&mut self, end: End) {
        let Some(Open { mut exchange, place, began, passing, waiter }) = self.0.take() else { return };
        if exchange.duration_us == 0 {
            exchange.duration_us = micros(began);
        }
        exchange.body = passing.take();
        exchange.end = end;
        place.fill(exchange, waiter);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.end_now(End::Abandoned);
    }
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}
