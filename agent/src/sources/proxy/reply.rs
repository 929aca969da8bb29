//! What a client is answered: the service's answer as it comes, or the proxy's own.
//!
//! An answer's body is passed on piece by piece. Where its record is to tell of it (its beginning, the status in a gRPC
//! call's trailers), the record is made when that much has passed, when the client goes away, or after a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::exchange::{Answered, Copied, End};
use super::heads::grpc_status;
use super::pending::Pending;
use super::upstream::Lease;

pub(super) type Reply = Response<ReplyBody>;

#[derive(Debug)]
pub(super) enum ReplyBody {
    /// The proxy's own words.
    Own(Option<Bytes>),
    Passed(Box<Passed>),
}

/// The service's body.
#[derive(Debug)]
pub(super) struct Passed {
    inner: Incoming,
    lease: Option<Lease>,
    tail: Option<Tail>,
}

/// A record that waits for what the body tells.
#[derive(Debug)]
struct Tail {
    pending: Option<Pending>,
    answered: Answered,
    copied: Copied,
    bytes_max: usize,
    until: Pin<Box<Sleep>>,
}

/// A record waits for its answer's body no longer than this.
const TAIL_WAIT: Duration = Duration::from_secs(10);

/// A text that says what is wrong and what to do.
pub(super) fn own(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut reply = Response::new(ReplyBody::Own(Some(Bytes::from(text.into() + "\n"))));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

impl ReplyBody {
    pub(super) fn passed(inner: Incoming, lease: Option<Lease>) -> Self {
        Self::Passed(Box::new(Passed { inner, lease, tail: None }))
    }

    /// The same; the record waits for what it tells, of which `bytes_max` bytes are kept.
    pub(super) fn told(inner: Incoming, lease: Option<Lease>, pending: Pending, answered: Answered, bytes_max: usize) -> Self {
        let copied = Copied { declared: answered.bytes, ..Copied::default() };
        let until = Box::pin(tokio::time::sleep(TAIL_WAIT));
        let mut tail = Tail { pending: Some(pending), answered, copied, bytes_max, until };
        if inner.is_end_stream() {
            tail.end(true);
        }
        Self::Passed(Box::new(Passed { inner, lease, tail: Some(tail) }))
    }
}

impl Tail {
    fn end(&mut self, is_whole: bool) {
        let Some(pending) = self.pending.take() else { return };
        self.copied.is_whole = is_whole;
        let mut answered = std::mem::take(&mut self.answered);
        if self.bytes_max > 0 && (self.copied.passed > 0 || !is_whole) {
            answered.body = Some(std::mem::take(&mut self.copied));
        }
        pending.end(End::Answered(answered));
    }

    fn see(&mut self, frame: &Frame<Bytes>) {
        if let Some(piece) = frame.data_ref() {
            self.copied.add(piece, self.bytes_max);
            if self.bytes_max > 0 && self.copied.passed > self.bytes_max as u64 {
                self.end(false);
            }
        } else if let Some(trailers) = frame.trailers_ref()
            && let Some(status) = grpc_status(trailers)
        {
            self.answered.grpc = Some(status);
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let is_whole = self.inner.is_end_stream();
        if let Some(tail) = &mut self.tail {
            tail.end(is_whole);
        }
        // Of an answer without a body (HEAD, 204, 304) nothing is ever read.
        if is_whole && let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let passed = match &mut *self {
            Self::Own(text) => return Poll::Ready(text.take().map(Frame::data).map(Ok)),
            Self::Passed(passed) => passed,
        };
        let polled = Pin::new(&mut passed.inner).poll_frame(context);
        if let Some(tail) = &mut passed.tail {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => tail.see(frame),
                Poll::Ready(None) => tail.end(true),
                Poll::Ready(Some(Err(_))) => tail.end(false),
                Poll::Pending => {
                    if tail.pending.is_some() && tail.until.as_mut().poll(context).is_ready() {
                        tail.end(false);
                    }
                }
            }
        }
        let is_whole = matches!(polled, Poll::Ready(None)) || polled.is_ready() && passed.inner.is_end_stream();
        if is_whole && let Some(lease) = passed.lease.take() {
            lease.give_back();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_none(),
            Self::Passed(passed) => passed.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Passed(passed) => passed.inner.size_hint(),
        }
    }
}
