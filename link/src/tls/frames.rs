//! Counts a peer's HTTP/2 frames and slows the peer that sends too many that carry nothing.
//!
//! Floods of resets, pings, settings, continuations, window updates or empty data cost a peer nothing and a server much.
//! The frames are counted where the bytes come in, before HTTP/2 looks at them; beyond the allowance the connection is
//! not read for a while. Nothing is dropped and no other connection waits. Data frames of some length are free here:
//! flow control and the receiver's pace bound them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a peer may send of frames that carry nothing: so many a second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub struct FrameAllowance {
    pub per_second: u32,
    pub burst: u32,
}

/// An agent's connection: a stream, a ping every few seconds, a window update for a lot of receipts.
pub const AGENT_FRAMES: FrameAllowance = FrameAllowance { per_second: 200, burst: 1000 };

/// A relay's: what agents send, for 64 of them on one connection.
pub(super) const RELAY_FRAMES: FrameAllowance = FrameAllowance { per_second: 4000, burst: 20_000 };

/// A client's: 64 requests at a time, and window updates for large objects.
pub const CLIENT_FRAMES: FrameAllowance = FrameAllowance { per_second: 4000, burst: 10_000 };

/// RFC 9113 §3.4: what a client sends first.
const PREFACE_BYTES: usize = 24;

/// RFC 9113 §4.1: length u24, type u8, flags u8, stream u32.
const HEAD_BYTES: usize = 9;

/// RFC 9113 §6.1.
const DATA: u8 = 0;

/// A data frame of at least this many bytes carries something.
const DATA_BYTES_MIN: u32 = 32;

/// Each further part of this many bytes in another frame counts as one more: header blocks are work by the byte.
const COUNTED_BYTES: u32 = 256;

/// A connection whose frames are counted.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    /// `None`: not HTTP/2.
    meter: Option<Meter>,
}

#[derive(Debug)]
struct Meter {
    allowance: FrameAllowance,
    /// Frames that are left; below zero, reading waits.
    left: f64,
    since: Instant,
    frames: Frames,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Where in the sequence of frames the bytes are.
#[derive(Debug)]
struct Frames {
    preface_left: usize,
    head: [u8; HEAD_BYTES],
    head_read: usize,
    payload_left: usize,
}

impl<S> Metered<S> {
    /// Counts if the connection speaks HTTP/2.
    pub fn new(inner: S, http2: bool, allowance: FrameAllowance) -> Self {
        let frames = Frames { preface_left: PREFACE_BYTES, head: [0; HEAD_BYTES], head_read: 0, payload_left: 0 };
        let meter = Meter { allowance, left: f64::from(allowance.burst), since: Instant::now(), frames, pause: None };
        Self { inner, meter: http2.then_some(meter) }
    }

    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl Frames {
    /// What these bytes count: one for each frame that begins in them and carries nothing, more for long ones.
    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left -= skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        let mut count = 0u32;
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((&first, rest)) = bytes.split_first() else { break };
            bytes = rest;
            if let Some(slot) = self.head.get_mut(self.head_read) {
                *slot = first;
            }
            self.head_read += 1;
            if self.head_read == HEAD_BYTES {
                self.head_read = 0;
                let [high, middle, low, kind, ..] = self.head;
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.payload_left = usize::try_from(length).unwrap_or(usize::MAX);
                if kind != DATA || length < DATA_BYTES_MIN {
                    count = count.saturating_add(1 + length / COUNTED_BYTES);
                }
            }
        }
        count
    }
}

impl Meter {
    fn read(&mut self, bytes: &[u8]) {
        let count = self.frames.count(bytes);
        if count == 0 {
            return;
        }
        let (now, rate) = (Instant::now(), f64::from(self.allowance.per_second));
        let refill = now.saturating_duration_since(self.since).as_secs_f64() * rate;
        self.since = now;
        self.left = (self.left + refill).min(f64::from(self.allowance.burst)) - f64::from(count);
        if self.left < 0.0 {
            let pause = Duration::try_from_secs_f64(-self.left / rate).unwrap_or(Duration::from_secs(1));
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
    }

    /// Pending while the peer has to wait.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(meter) = &mut this.meter {
            std::task::ready!(meter.poll_ready(cx));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if let Some(meter) = &mut this.meter {
            meter.read(buf.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frames() -> Frames {
        Frames { preface_left: 0, head: [0; HEAD_BYTES], head_read: 0, payload_left: 0 }
    }

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let bytes = u32::try_from(length).unwrap().to_be_bytes();
        [&bytes[1..], &[kind, 0, 0, 0, 0, 1], &vec![0xff; length]].concat()
    }

    #[test]
    fn what_carries_nothing_is_counted_however_it_is_cut() {
        let all = [frame(6, 8), frame(DATA, 1000), frame(DATA, 0), frame(9, 16 * 1024 - 1), frame(3, 4)].concat();
        for cut in [1, 2, 7, 9, 1000, all.len()] {
            let mut frames = frames();
            let count: u32 = all.chunks(cut).map(|part| frames.count(part)).sum();
            assert_eq!(count, 1 + 1 + 64 + 1, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_flood_is_slowed_to_its_allowance_and_data_is_not() {
        let allowance = FrameAllowance { per_second: 1000, burst: 100 };
        let (mut peer, ours) = tokio::io::duplex(1 << 20);
        let mut ours = Metered::new(ours, true, allowance);
        peer.write_all(&[vec![0; PREFACE_BYTES], frame(DATA, 100_000)].concat()).await.unwrap();
        ours.read_exact(&mut vec![0; PREFACE_BYTES + HEAD_BYTES + 100_000]).await.unwrap();
        assert!(ours.meter.as_ref().unwrap().pause.is_none(), "data does not count");
        let began = Instant::now();
        let flood = frame(6, 8).repeat(600);
        peer.write_all(&flood).await.unwrap();
        ours.read_exact(&mut vec![0; flood.len()]).await.unwrap();
        peer.write_all(&frame(6, 8)).await.unwrap();
        ours.read_exact(&mut [0; HEAD_BYTES + 8]).await.unwrap();
        // 600 at once, 100 of them free, the next one after the rest was waited for.
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut frames = frames();
            for part in parts {
                frames.count(&part);
            }
        }
    }
}
