//! The request of one HTTP/2 stream, between the task that receives it and the handler that reads it.
//!
//! HTTP/2 libraries keep every DATA frame that nobody has read, at some 256 bytes a frame besides its
//! payload, and h2 ends a connection (GOAWAY, ENHANCE_YOUR_CALM) that makes it keep too many. A gRPC
//! message may be smaller than that and comes in a frame of its own, so a legal client that streams faster
//! than a handler reads looks like an attack. Frames are therefore taken out of h2 as soon as they arrive
//! and joined here, where unread data costs its own length; the stream's window bounds that, because it is
//! given back only when the handler has read.

use std::{
    borrow::Cow,
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::timeout;

/// What a handler reads a request from.
#[derive(Debug)]
pub(crate) struct Incoming(Arc<Exchange>);

/// Fills the inbox of an [`Incoming`]. Lives in the task of the stream.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: RecvStream,
    exchange: Arc<Exchange>,
}

/// What all that has to do with one call shares: what has been seen of its messages so far, and what of its
/// request is unread.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// The client has half-closed the stream.
    pub(crate) request_ended: AtomicBool,
    /// The client reset the stream, or the connection was lost.
    pub(crate) client_reset: AtomicBool,
    inbox: Mutex<Inbox>,
}

impl Exchange {
    /// Messages in both directions.
    pub(crate) fn messages(&self) -> u64 {
        self.received.load(Relaxed) + self.sent.load(Relaxed)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it holds the lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Inbox {
    /// The first frame, as it came: most requests have no second.
    first: Bytes,
    /// What came behind it.
    rest: BytesMut,
    end: Option<End>,
    /// Bytes that have been read and whose window has not been given back.
    read: usize,
    /// Waits for data.
    reader: Option<Waker>,
    /// The task of the stream, while there is unread data and the task waits.
    task: Option<Waker>,
    /// The handler has dropped its end.
    unwanted: bool,
}

/// How a request ends.
#[derive(Debug)]
enum End {
    /// END_STREAM, perhaps with trailers.
    Complete(Option<HeaderMap>),
    /// RST_STREAM, a lost connection, or a call that is over before its request.
    Failed(Cow<'static, str>),
}

/// The two ends of a request.
pub(crate) fn channel(stream: RecvStream) -> (Receiver, Incoming) {
    let inbox = Inbox {
        end: stream.is_end_stream().then_some(End::Complete(None)),
        ..Inbox::default()
    };
    let exchange = Arc::new(Exchange {
        inbox: inbox.into(),
        ..Exchange::default()
    });
    let receiver = Receiver {
        stream,
        exchange: exchange.clone(),
    };
    (receiver, Incoming(exchange))
}

impl Inbox {
    fn push(&mut self, data: Bytes) {
        if self.unwanted {
            self.read += data.len();
        } else if self.is_empty() {
            self.first = data;
        } else {
            self.rest.extend_from_slice(&data);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let data = match self.first.is_empty() {
            // Splitting takes memory, even if there is nothing to split.
            true if self.rest.is_empty() => return None,
            true => self.rest.split().freeze(),
            false => mem::take(&mut self.first),
        };
        self.read += data.len();
        Some(data)
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// Drops what has not been read.
    fn clear(&mut self) {
        self.read += self.first.len() + self.rest.len();
        (self.first, self.rest) = Default::default();
    }

    fn end(&mut self, end: End) {
        self.end = Some(end);
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Incoming {
    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.0
    }

    /// The next data, or the trailers. Fails if the client resets the stream, the connection is lost or the
    /// call is over.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cow<'static, str>>>> {
        let mut inbox = self.0.inbox();
        if let Some(data) = inbox.pop() {
            // So that the window is given back.
            if let Some(task) = inbox.task.take() {
                task.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut inbox.end {
            None => {
                inbox.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Complete(trailers)) => {
                Poll::Ready(trailers.take().map(Frame::trailers).map(Ok))
            }
            Some(End::Failed(why)) => Poll::Ready(Some(Err(why.clone()))),
        }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_end_stream(&self) -> bool {
        let inbox = self.0.inbox();
        inbox.is_empty() && matches!(inbox.end, Some(End::Complete(None)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox();
        inbox.clear();
        inbox.unwanted = true;
    }
}

impl Receiver {
    /// Takes what has arrived, has `poll` use it, and gives back the window of what that has read.
    pub(crate) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.receive(cx);
        let polled = poll(cx);
        if polled.is_pending() {
            let mut inbox = self.exchange.inbox();
            release(&mut self.stream, mem::take(&mut inbox.read));
            if !inbox.is_empty() {
                inbox.task = Some(cx.waker().clone());
            }
        }
        polled
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        let inbox = &mut *self.exchange.inbox();
        inbox.task = None;
        release(&mut self.stream, mem::take(&mut inbox.read));
        while inbox.end.is_none() {
            match self.stream.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(data))) => {
                    inbox.push(data);
                    inbox.wake_reader();
                    if self.stream.is_end_stream() {
                        inbox.end(End::Complete(None));
                    }
                }
                Poll::Ready(Some(Err(error))) => inbox.end(End::Failed(error.to_string().into())),
                Poll::Ready(None) => match self.stream.poll_trailers(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(trailers)) => inbox.end(End::Complete(trailers)),
                    Poll::Ready(Err(error)) => inbox.end(End::Failed(error.to_string().into())),
                },
            }
        }
    }

    /// Ends the request for a handler that still reads, because its call is over. Says whether the client may
    /// still be sending.
    pub(crate) fn close(&mut self) -> bool {
        let mut inbox = self.exchange.inbox();
        let sending = inbox.end.is_none();
        inbox.clear();
        inbox.end(End::Failed("the call is over".into()));
        release(&mut self.stream, mem::take(&mut inbox.read));
        sending
    }

    /// Reads on for a little while without keeping anything.
    ///
    /// Data that is in flight when a call has been answered early is no fault of the client's: RFC 9113, 5.1,
    /// wants it ignored. h2 counts it against the connection once the stream has been reset.
    pub(crate) async fn discard(mut self) {
        const LONGEST: Duration = Duration::from_secs(1);
        const MOST: usize = 1024 * 1024;

        let mut left = MOST;
        let discarded = poll_fn(|cx| {
            loop {
                let Some(Ok(data)) = ready!(self.stream.poll_data(cx)) else {
                    return Poll::Ready(());
                };
                release(&mut self.stream, data.len());
                left = match left.checked_sub(data.len()) {
                    Some(left) => left,
                    None => return Poll::Ready(()),
                };
            }
        });
        // Beyond that, dropping the stream resets it with NO_ERROR (RFC 9113, 8.1).
        let _ = timeout(LONGEST, discarded).await;
    }
}

fn release(stream: &mut RecvStream, bytes: usize) {
    if bytes > 0 {
        // Cannot fail: no more is given back than has come.
        let _: Result<(), h2::Error> = stream.flow_control().release_capacity(bytes);
    }
}

/// Fills an [`Incoming`] without a stream.
#[cfg(any(test, fuzzing))]
pub(crate) struct ByHand(Arc<Exchange>);

#[cfg(any(test, fuzzing))]
impl ByHand {
    pub(crate) fn new() -> (Self, Incoming) {
        let exchange = Arc::default();
        (Self(Arc::clone(&exchange)), Incoming(exchange))
    }

    pub(crate) fn push(&self, data: Bytes) {
        let mut inbox = self.0.inbox();
        inbox.push(data);
        inbox.wake_reader();
    }

    pub(crate) fn complete(&self, trailers: Option<HeaderMap>) {
        self.0.inbox().end(End::Complete(trailers));
    }

    pub(crate) fn fail(&self, why: &str) {
        self.0.inbox().end(End::Failed(why.to_owned().into()));
    }
}
