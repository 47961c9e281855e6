//! One HTTP/2 stream: a call from its request to the end of its response.
//!
//! What is sent is handed to h2 only as far as the windows of the client allow, and carries the call's
//! [`InFlight`] until it has been written: a client that takes nothing holds its place among the calls, and
//! only for so long.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream, server::SendResponse};
use http::Response;
use http_body::Frame;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::{
    call::{in_flight::InFlight, response_body::ResponseBody},
    wire::incoming::Receiver,
};

/// Data of a response on its way out, for as long as it is in memory.
pub(crate) struct Chunk {
    data: Bytes,
    _in_flight: Option<Arc<InFlight>>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.data.advance(bytes);
    }
}

/// Waits for the response and sends it. Dropping the stream early resets it with CANCEL.
///
/// The response is begun in here, and its future ends before the body is sent, so that the two have the same
/// room in the memory of the task.
pub(crate) async fn serve<F, B>(
    mut receiver: Receiver,
    mut reply: SendResponse<Chunk>,
    respond: impl FnOnce() -> F,
    stall: Duration,
) where
    F: Future<Output = Response<B>>,
    B: ResponseBody,
{
    let responded = {
        let mut response = pin!(respond());
        let responded = poll_fn(|cx| {
            receiver.poll_with(cx, |cx| match response.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending => reply.poll_reset(cx).map(|_| None),
            })
        });
        responded.await
    };
    let Some(responded) = responded else {
        return;
    };
    let (head, body) = responded.into_parts();
    let in_flight = body.in_flight();
    let ended = body.is_end_stream();
    let Ok(stream) = reply.send_response(Response::from_parts(head, ()), ended) else {
        return;
    };
    let mut sending = Sending {
        receiver: &mut receiver,
        stream,
        body,
        in_flight: in_flight.clone(),
        stall,
    };
    if !ended && sending.run().await.is_none() {
        return;
    }
    drop(sending);
    if receiver.close()
        && let Some(_place) = in_flight.as_deref().and_then(InFlight::linger)
    {
        receiver.discard().await;
    }
}

/// A response body on its way into a stream.
struct Sending<'a, B> {
    receiver: &'a mut Receiver,
    stream: SendStream<Chunk>,
    body: B,
    in_flight: Option<Arc<InFlight>>,
    stall: Duration,
}

impl<B: ResponseBody> Sending<'_, B> {
    /// Sends all of it; None if the client has reset the stream, or it must be.
    async fn run(&mut self) -> Option<()> {
        loop {
            let Some(frame) = self.frame().await? else {
                return self.send(Bytes::new(), true);
            };
            match frame.into_data() {
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    self.send_as_allowed(data, last).await?;
                    if last {
                        return Some(());
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return self.stream.send_trailers(trailers).ok();
                }
            }
        }
    }

    /// The next frame of the body, if there is one.
    async fn frame(&mut self) -> Option<Option<Frame<Bytes>>> {
        let Self {
            receiver,
            stream,
            body,
            ..
        } = self;
        let frame = poll_fn(|cx| {
            receiver.poll_with(cx, |cx| match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
                Poll::Pending => stream.poll_reset(cx).map(|_| None),
            })
        });
        match frame.await? {
            Some(Err(_)) => {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                None
            }
            frame => Some(frame.and_then(Result::ok)),
        }
    }

    async fn send_as_allowed(&mut self, mut data: Bytes, last: bool) -> Option<()> {
        while !data.is_empty() {
            let allowed = self.capacity(data.len()).await?;
            let chunk = data.split_to(allowed.min(data.len()));
            self.send(chunk, last && data.is_empty())?;
        }
        Some(())
    }

    fn send(&mut self, data: Bytes, last: bool) -> Option<()> {
        let chunk = Chunk {
            data,
            _in_flight: self.in_flight.clone(),
        };
        self.stream.send_data(chunk, last).ok()
    }

    /// How much of `wanted` may be sent now: at least a byte.
    async fn capacity(&mut self, wanted: usize) -> Option<usize> {
        self.stream.reserve_capacity(wanted);
        // Most often at once, without a look at the clock.
        if let allowed @ 1.. = self.stream.capacity() {
            return Some(allowed);
        }
        let (stalled, code) = self.abort_at();
        let Self {
            receiver, stream, ..
        } = self;
        let allowed = poll_fn(|cx| receiver.poll_with(cx, |cx| poll_capacity(stream, cx)));
        match timeout_at(stalled, allowed).await {
            Ok(allowed) => allowed,
            Err(_) => {
                self.body.abort(code);
                None
            }
        }
    }

    /// When to reset a stream whose data is not taken, and how its call has ended then.
    fn abort_at(&self) -> (Instant, Code) {
        // For what is under way to be taken, so that the body can say itself how the call ends.
        const GRACE: Duration = Duration::from_secs(1);
        let stalled = Instant::now() + self.stall;
        match self.body.deadline().map(|deadline| deadline + GRACE) {
            Some(too_late) if too_late < stalled => (too_late, Code::DeadlineExceeded),
            _ => (stalled, Code::Unavailable),
        }
    }
}

fn poll_capacity(stream: &mut SendStream<Chunk>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    loop {
        let allowed = stream.capacity();
        if allowed > 0 {
            return Poll::Ready(Some(allowed));
        }
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return Poll::Ready(None),
            Poll::Pending => return stream.poll_reset(cx).map(|_| None),
        }
    }
}
