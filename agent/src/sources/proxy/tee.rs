//! A request's body on its way to the service: passed on piece by piece, its beginning copied.
//!
//! Nothing is held back: a piece is read when the service can take it, so that the one who is slow slows the other.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::exchange::Copied;

/// What has passed of a body so far; seen from both sides.
#[derive(Clone, Debug)]
pub(super) struct Passing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    copied: Copied,
    bytes_max: usize,
    last: Instant,
}

/// The body, passed on.
#[derive(Debug)]
pub(super) struct Tee {
    inner: Incoming,
    passing: Passing,
}

impl Passing {
    /// Of `bytes_max` bytes a copy is kept.
    pub(super) fn new(bytes_max: usize, body: &Incoming, declared: Option<u64>) -> Self {
        let copied = Copied { is_whole: body.is_end_stream(), declared, ..Copied::default() };
        Self(Arc::new(Mutex::new(State { copied, bytes_max, last: Instant::now() })))
    }

    /// When something passed last.
    pub(super) fn last(&self) -> Instant {
        self.state().last
    }

    /// Whether all of it has passed.
    pub(super) fn is_whole(&self) -> bool {
        self.state().copied.is_whole
    }

    /// What is there of it now; `None` where there was no body.
    pub(super) fn take(&self) -> Option<Copied> {
        let copied = std::mem::take(&mut self.state().copied);
        (copied.passed > 0 || !copied.is_whole || copied.declared.is_some_and(|bytes| bytes > 0)).then_some(copied)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copied {
    /// A piece that passed; of all together at most `bytes_max` bytes are kept.
    pub(super) fn add(&mut self, piece: &[u8], bytes_max: usize) {
        self.passed += piece.len() as u64;
        let room = bytes_max.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }
}

impl Tee {
    pub(super) fn new(inner: Incoming, passing: Passing) -> Self {
        Self { inner, passing }
    }
}

impl Body for Tee {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let is_end = self.inner.is_end_stream();
        let mut state = self.passing.state();
        state.last = Instant::now();
        match &frame {
            None => state.copied.is_whole = true,
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    let bytes_max = state.bytes_max;
                    state.copied.add(piece, bytes_max);
                }
                state.copied.is_whole |= is_end;
            }
            Some(Err(_)) => {}
        }
        drop(state);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
