//! The bytes of an HTTP/2 connection, watched for a peer that neither goes on nor goes away.
//!
//! HTTP/2 libraries wait for the rest of a preface, of a frame or of a header block for as long as the
//! socket is open, and so would a write to a peer that has stopped reading. None of hyper's timers
//! covers either, and a header block in progress even keeps its PINGs from being answered.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{limits::Limits, splitter::Splitter};

/// A stream that fails with `TimedOut` when the peer leaves something half sent, or does not take what
/// it is sent, for too long; and with `InvalidData` when it sends nothing but control frames too fast.
pub(crate) struct Watched<T> {
    stream: T,
    frames: Frames,
    unfinished: Timer,
    untaken: Timer,
    handshake: Duration,
    stall: Duration,
    control: Rate,
}

impl<T> Watched<T> {
    pub(crate) fn new(stream: T, limits: &Limits) -> Self {
        Self {
            stream,
            frames: Frames::new(),
            unfinished: Timer::default(),
            untaken: Timer::default(),
            handshake: *limits.handshake_timeout,
            stall: *limits.stall_timeout,
            control: Rate::default(),
        }
    }

    /// Whether the peer takes too long over what it has begun. To be asked when there is nothing to
    /// read, so that the timer wakes the reader.
    fn check_unfinished(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let in_handshake = self.frames.in_handshake();
        if self.frames.between() && !in_handshake {
            self.unfinished.clear();
            return Ok(());
        }
        if std::mem::take(&mut self.frames.moved) && !in_handshake {
            self.unfinished.clear();
        }
        let allowed = if in_handshake {
            self.handshake
        } else {
            self.stall
        };
        self.unfinished.check(cx, allowed)
    }

    fn note_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let control = self.frames.feed(bytes).map_err(invalid)?;
        if control > 0 && self.control.add(control) > MOST_CONTROL_FRAMES {
            return Err(invalid("a flood of control frames"));
        }
        Ok(())
    }

    fn note_write<R>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match written {
            Poll::Pending => match self.untaken.check(cx, self.stall) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            ready => {
                self.untaken.clear();
                ready
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.note_read(&buffer.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match self.check_unfinished(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note_write(cx, shut)
    }
}

/// A time that is set when something is first found waiting.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn clear(&mut self) {
        self.0 = None;
    }

    fn check(&mut self, cx: &mut Context<'_>, allowed: Duration) -> io::Result<()> {
        let sleep = (self.0).get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + allowed)));
        match sleep.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// PINGs, settings and frames of no use, in one second. grpc-go measures bandwidth with a PING a round
/// trip, and near by that is a tenth of a millisecond.
const MOST_CONTROL_FRAMES: u32 = 10_000;

/// What was counted in the current second.
#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    count: u32,
}

impl Rate {
    fn add(&mut self, count: u32) -> u32 {
        let now = Instant::now();
        if (self.since).is_none_or(|since| now - since >= Duration::from_secs(1)) {
            *self = Self {
                since: Some(now),
                count: 0,
            };
        }
        self.count = self.count.saturating_add(count);
        self.count
    }
}

/// Follows the frames of a client without looking into them. It checks nothing: HTTP/2 does.
/// RFC 9113, 3.4, 4.1 and 6.
#[derive(Debug)]
struct Frames {
    splitter: Splitter<9>,
    /// The first frame has begun.
    greeted: bool,
    /// A header block has begun whose last frame has not come.
    in_headers: bool,
    /// Something that was half sent has ended since this was last taken.
    moved: bool,
}

impl Frames {
    fn new() -> Self {
        const PREFACE: usize = 24;
        Self {
            splitter: Splitter::after(PREFACE),
            greeted: false,
            in_headers: false,
            moved: false,
        }
    }

    /// Takes the next bytes; returns how many control frames begin in them.
    fn feed(&mut self, bytes: &[u8]) -> Result<u32, &'static str> {
        const SETTINGS: u8 = 4;
        const CONTINUATION: u8 = 9;
        const END_HEADERS: u8 = 4;
        let mut control = 0;
        let complete = self.splitter.complete();
        let fed = self.splitter.feed(bytes, |_, &[a, b, c, kind, flags, ..]| {
            // h2 would take calls from a client that has never sent any.
            if !std::mem::replace(&mut self.greeted, true) && kind != SETTINGS {
                return Err("SETTINGS must come first");
            }
            match kind {
                // DATA, RST_STREAM, GOAWAY, WINDOW_UPDATE: as many as the calls need.
                0 | 3 | 7 | 8 => {}
                // HEADERS, PUSH_PROMISE, CONTINUATION
                1 | 5 | 9 => self.in_headers = flags & END_HEADERS == 0,
                // PRIORITY, SETTINGS, PING, and what nobody knows.
                _ => control += 1,
            }
            self.moved |= kind != CONTINUATION;
            Ok(u32::from_be_bytes([0, a, b, c]) as usize)
        });
        self.moved |= !self.in_headers && self.splitter.complete() != complete;
        fed.map(|()| control).map_err(|(_, problem)| problem)
    }

    /// Whether nothing is half sent.
    fn between(&self) -> bool {
        self.splitter.between() && !self.in_headers
    }

    /// Whether the preface and the settings that must follow it are still to come.
    fn in_handshake(&self) -> bool {
        self.splitter.complete() < 2
    }
}
