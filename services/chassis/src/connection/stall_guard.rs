//! The bytes of an HTTP/2 connection, watched for a peer that neither goes on nor goes away.
//!
//! HTTP/2 libraries wait for the rest of a preface, of a frame or of a header block for as long as the
//! socket is open, and so would a write to a peer that has stopped reading. They have
//! no timer for either, and a header block in progress even keeps PINGs from being answered.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{settings::limits::Limits, telemetry::throttle::Rate, wire::framing::Splitter};

/// How much is read before the tasks of the streams have a turn, in bytes.
pub(crate) const READ_A_TURN: usize = 16 * 1024;

/// A stream that fails with `TimedOut` when the peer leaves something half sent, or does not take what
/// it is sent, for too long; and with `InvalidData` when it sends more control frames than its calls need.
pub(crate) struct StallGuard<T> {
    stream: T,
    /// None for HTTP/1.1, where only writing is watched.
    frames: Option<Frames>,
    read_stall: Timer,
    write_stall: Timer,
    handshake: Duration,
    stall: Duration,
    control: Control,
    activity: Arc<Activity>,
}

/// What a connection has heard from its peer.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Bytes, since the task of the connection was last scheduled.
    this_turn: AtomicUsize,
    /// Anything, since somebody last asked.
    any: AtomicBool,
}

impl Activity {
    /// The task of the connection is scheduled.
    pub(crate) fn begin_turn(&self) {
        self.this_turn.store(0, Relaxed);
    }

    /// Whether anything has been read since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.any.swap(false, Relaxed)
    }

    fn note(&self, bytes: usize) {
        self.this_turn.fetch_add(bytes, Relaxed);
        self.any.store(true, Relaxed);
    }
}

impl<T> StallGuard<T> {
    pub(crate) fn new(stream: T, limits: &Limits) -> Self {
        Self {
            stream,
            frames: Some(Frames::new()),
            read_stall: Timer::default(),
            write_stall: Timer::default(),
            handshake: *limits.handshake_timeout,
            stall: *limits.stall_timeout,
            control: Control::default(),
            activity: Arc::default(),
        }
    }

    /// For HTTP/1.1.
    pub(crate) fn without_frames(stream: T, limits: &Limits) -> Self {
        Self {
            frames: None,
            ..Self::new(stream, limits)
        }
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Whether the peer takes too long over what it has begun. To be asked when there is nothing to
    /// read, so that the timer wakes the reader.
    fn check_read_stall(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        let in_handshake = frames.in_handshake();
        if frames.between() && !in_handshake {
            self.read_stall.clear();
            return Ok(());
        }
        if std::mem::take(&mut frames.moved) && !in_handshake {
            self.read_stall.clear();
        }
        let allowed = if in_handshake {
            self.handshake
        } else {
            self.stall
        };
        self.read_stall.check(cx, allowed)
    }

    fn note_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.activity.note(bytes.len());
        let Some(frames) = &mut self.frames else {
            return Ok(());
        };
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let counted = frames.feed(bytes).map_err(invalid)?;
        self.control.check(counted).map_err(invalid)
    }

    /// `bytes` says how many have been written.
    fn note_write<R>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<R>>,
        bytes: impl FnOnce(&R) -> usize,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(Ok(written)) = &written {
            self.control.written += bytes(written) as u64;
        }
        match written {
            Poll::Pending => match self.write_stall.check(cx, self.stall) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            ready => {
                self.write_stall.clear();
                ready
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StallGuard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frames.is_some() && self.activity.this_turn.load(Relaxed) >= READ_A_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.note_read(&buffer.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match self.check_read_stall(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StallGuard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(cx, written, |written| *written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_write(cx, written, |written| *written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_write(cx, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note_write(cx, shut, |()| 0)
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

/// How many frames of some types there were.
#[derive(Debug, Default)]
struct Counted {
    headers: u32,
    resets: u32,
    window_updates: u32,
    others: u32,
}

/// Limits what costs a client nothing to send, and so could keep a core busy for ever.
#[derive(Default)]
struct Control {
    rate: Rate,
    resets: Rate,
    /// Streams that have been begun and not reset: each may be, once.
    unreset: u64,
    /// Bytes that have been written and not been answered with WINDOW_UPDATE.
    written: u64,
}

impl Control {
    /// Frames in one second that no call accounts for. grpc-go measures bandwidth with a PING a round trip,
    /// and near by that is a tenth of a millisecond.
    const MOST: u32 = 10_000;

    /// Streams that may be reset in one second: more than a client that cancels every call has been seen to
    /// (CVE-2023-44487). h2 ends a connection, too, that resets 400 before they are accepted.
    const MOST_RESETS: u32 = 20_000;

    /// The shortest message is a DATA frame of 14 bytes, and a client may answer it with one WINDOW_UPDATE
    /// for its stream and one for the connection.
    const BYTES_A_WINDOW_UPDATE: u64 = 7;

    fn check(&mut self, counted: Counted) -> Result<(), &'static str> {
        let Counted {
            headers,
            resets,
            window_updates,
            others,
        } = counted;
        self.unreset += u64::from(headers);
        let unfounded = take(&mut self.unreset, resets.into(), 1)
            + take(
                &mut self.written,
                window_updates.into(),
                Self::BYTES_A_WINDOW_UPDATE,
            )
            + others;
        if unfounded > 0 && self.rate.add(unfounded) > Self::MOST {
            return Err("a flood of control frames");
        }
        if resets > 0 && self.resets.add(resets) > Self::MOST_RESETS {
            return Err("a flood of RST_STREAM");
        }
        Ok(())
    }
}

/// Pays for as many of `frames` as `credit` allows, at `price` each, and returns how many it does not.
fn take(credit: &mut u64, frames: u64, price: u64) -> u32 {
    let paid = frames.min(*credit / price);
    *credit -= paid * price;
    u32::try_from(frames - paid).unwrap_or(u32::MAX)
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

    /// Takes the next bytes; returns which frames begin in them.
    fn feed(&mut self, bytes: &[u8]) -> Result<Counted, &'static str> {
        const SETTINGS: u8 = 4;
        const CONTINUATION: u8 = 9;
        const END_HEADERS: u8 = 4;
        let mut counted = Counted::default();
        let complete = self.splitter.complete();
        let fed = self.splitter.feed(bytes, |_, &[a, b, c, kind, flags, ..]| {
            // h2 would take calls from a client that has never sent any.
            if !std::mem::replace(&mut self.greeted, true) && kind != SETTINGS {
                return Err("SETTINGS must come first");
            }
            match kind {
                // DATA: bounded by its windows, and h2 counts what it cannot use.
                0 => {}
                // HEADERS, PUSH_PROMISE, CONTINUATION
                1 | 5 | 9 => {
                    self.in_headers = flags & END_HEADERS == 0;
                    counted.headers += u32::from(kind == 1);
                }
                3 => counted.resets += 1,
                8 => counted.window_updates += 1,
                // PRIORITY, SETTINGS, PING, GOAWAY, and what nobody knows.
                _ => counted.others += 1,
            }
            self.moved |= kind != CONTINUATION;
            Ok(u32::from_be_bytes([0, a, b, c]) as usize)
        });
        self.moved |= !self.in_headers && self.splitter.complete() != complete;
        fed.map(|()| counted).map_err(|(_, problem)| problem)
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
