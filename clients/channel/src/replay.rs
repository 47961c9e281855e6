//! A request body that can be sent again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

/// What is kept of a request that may have to be sent again: as much as a server here takes for one
/// message, and its prefix.
const MOST_KEPT: usize = 64 * 1024 + 5;

/// A request body, and what has been sent of it so far.
///
/// Only the newest attempt gets any of it. Once that is committed, or the body longer than can be kept,
/// there is no other.
#[derive(Debug, Clone)]
pub(crate) struct Replay(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    rest: Body,
    sent: Vec<Bytes>,
    bytes: usize,
    attempts: u32,
    /// Whether there may be another attempt.
    again: bool,
    /// Wakes the newest attempt.
    waker: Option<Waker>,
}

impl Replay {
    pub(crate) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            rest: body,
            sent: Vec::new(),
            bytes: 0,
            attempts: 0,
            again: true,
            waker: None,
        })))
    }

    /// The body from its beginning, unless it is too late for that.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        let mut kept = self.lock();
        if !kept.again {
            return None;
        }
        Some(Attempt {
            number: kept.outdate(),
            next: 0,
            replay: self.clone(),
        })
    }

    /// Whether it is too late for another attempt.
    pub(crate) fn is_gone(&self) -> bool {
        !self.lock().again
    }

    /// Says that there will be no other attempt.
    pub(crate) fn commit(&self) {
        self.lock().again = false;
    }

    /// Ends the attempt, for nobody waits for its answer any more; nothing else would tell a body that
    /// itself has to wait.
    pub(crate) fn end(&self) {
        let mut kept = self.lock();
        kept.again = false;
        kept.outdate();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Ends the attempt that there is. The number of the next.
    fn outdate(&mut self) -> u32 {
        self.attempts += 1;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        self.attempts
    }

    /// The next of what earlier attempts have sent.
    fn sent(&mut self, next: usize) -> Option<Bytes> {
        let sent = self.sent.get(next).cloned();
        if sent.is_none() && !self.again {
            self.sent = Vec::new();
        }
        sent
    }

    fn keep(&mut self, data: &Bytes) {
        self.bytes += data.len();
        self.again &= self.bytes <= MOST_KEPT;
        if self.again {
            self.sent.push(data.clone());
        }
    }
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub(crate) struct Attempt {
    replay: Replay,
    number: u32,
    next: usize,
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let replay = self.replay.clone();
        let mut kept = replay.lock();
        if kept.attempts != self.number {
            // Resets the stream.
            let cancelled = h2::Error::from(h2::Reason::CANCEL);
            return Poll::Ready(Some(Err(Status::from_error(cancelled.into()))));
        }
        let sent = kept.sent(self.next);
        if let Some(data) = sent {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Poll::Ready(frame) = Pin::new(&mut kept.rest).poll_frame(cx) else {
            kept.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.next += 1;
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.keep(data);
                }
            }
            Some(Err(_)) => kept.again = false,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.replay.lock();
        self.next >= kept.sent.len() && kept.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::body::Body;

    use super::{Attempt, MOST_KEPT, Replay};

    /// A body of these pieces.
    fn body(pieces: &[&'static str]) -> Replay {
        let frames = pieces
            .iter()
            .map(|piece| Ok::<_, tonic::Status>(piece.as_bytes().into()));
        let frames: Vec<_> = frames
            .map(|data| data.map(http_body::Frame::data))
            .collect();
        Replay::new(Body::new(StreamBody::new(tokio_stream::iter(frames))))
    }

    async fn piece(attempt: &mut Attempt) -> Option<Bytes> {
        let frame = attempt.frame().await?.expect("a frame");
        Some(frame.into_data().expect("data"))
    }

    async fn rest(mut attempt: Attempt) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = piece(&mut attempt).await {
            all.extend(piece);
        }
        all
    }

    #[tokio::test]
    async fn each_attempt_sends_the_whole_body_and_only_the_newest_any() {
        let body = body(&["a", "b", "c"]);
        let mut first = body.attempt().expect("the first");
        assert_eq!(piece(&mut first).await.expect("a piece"), "a");
        let mut second = body.attempt().expect("the second");
        let error = first.frame().await.expect("an end").expect_err("an error");
        assert_eq!(error.code(), tonic::Code::Cancelled);
        assert_eq!(piece(&mut second).await.expect("a piece"), "a");
        assert_eq!(piece(&mut second).await.expect("a piece"), "b");
        assert_eq!(rest(body.attempt().expect("the third")).await, b"abc");
    }

    #[tokio::test]
    async fn a_body_that_waits_is_told_of_its_end() {
        let body = Replay::new(Body::new(StreamBody::new(tokio_stream::pending::<
            Result<http_body::Frame<Bytes>, tonic::Status>,
        >())));
        let mut attempt = body.attempt().expect("the first");
        let sending = tokio::spawn(async move { attempt.frame().await });
        tokio::task::yield_now().await;
        body.end();
        assert!(sending.await.expect("no panic").expect("an end").is_err());
        assert!(body.is_gone());
    }

    #[tokio::test]
    async fn what_is_committed_in_the_middle_goes_on_to_its_end() {
        let body = body(&["a", "b", "c"]);
        assert_eq!(rest(body.attempt().expect("the first")).await, b"abc");
        let mut second = body.attempt().expect("the second");
        assert_eq!(piece(&mut second).await.expect("a piece"), "a");
        body.commit();
        assert!(body.attempt().is_none());
        assert_eq!(rest(second).await, b"bc");
    }

    #[tokio::test]
    async fn what_is_too_long_to_be_kept_is_sent_once() {
        static LONG: [u8; MOST_KEPT] = [b'x'; MOST_KEPT];
        let long = str::from_utf8(&LONG).expect("text");
        let body = body(&["a", long, "b"]);
        let mut first = body.attempt().expect("the first");
        assert_eq!(piece(&mut first).await.expect("a piece"), "a");
        let mut second = body.attempt().expect("the second");
        assert_eq!(piece(&mut second).await.expect("a piece"), "a");
        assert_eq!(piece(&mut second).await.expect("a piece"), long);
        assert!(body.attempt().is_none());
        assert_eq!(rest(second).await, b"b");
    }

    #[tokio::test]
    async fn a_body_ends_where_its_last_piece_does() {
        let body = Replay::new(Body::new(http_body_util::Full::from("a")));
        let mut attempt = body.attempt().expect("the first");
        assert!(!attempt.is_end_stream());
        poll_fn(|cx| std::pin::Pin::new(&mut attempt).poll_frame(cx)).await;
        assert!(attempt.is_end_stream());
        assert!(!body.attempt().expect("the second").is_end_stream());
    }
}
