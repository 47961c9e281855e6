//! Features that are encoded once and sent many times.

use std::{
    fmt,
    iter::Peekable,
    marker::PhantomData,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use prost::Message;
use tonic::{Response, Status, body::Body};

use crate::feature_id::FeatureId;

/// On the wire, a flag and four bytes of length precede each message.
const PREFIX: usize = 5;

/// Maximum bytes in one piece of a reply, unless a single message is longer: the default maximum size of an
/// HTTP/2 frame.
const PIECE: usize = 16 * 1024;

/// Messages in wire format, one after the other, indexed by id.
pub(crate) struct Encoded<M> {
    bytes: Bytes,
    /// The end of each message, where the next one begins.
    ends: Arc<[u32]>,
    of: PhantomData<fn() -> M>,
}

/// A builder for [`Encoded`].
pub(crate) struct EncodedBuilder<M> {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    of: PhantomData<fn() -> M>,
}

/// More than 4 GiB, or more than 4294967295 messages.
#[derive(Debug)]
pub(crate) struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than 4 GiB when encoded")
    }
}

impl<M: Message + Default + 'static> EncodedBuilder<M> {
    /// Appends a message.
    pub(crate) fn push(&mut self, message: &M) -> Result<(), TooMany> {
        let length = message.encoded_len();
        let end = u32::try_from(self.bytes.len() + PREFIX + length).map_err(|_| TooMany)?;
        self.bytes.put_u8(0); // not compressed
        self.bytes.put_u32(length as u32);
        message.encode_raw(&mut self.bytes);
        self.ends.push(end);
        Ok(())
    }

    /// The messages, with spare capacity released.
    pub(crate) fn build(mut self) -> Encoded<M> {
        self.bytes.shrink_to_fit();
        Encoded {
            bytes: self.bytes.into(),
            ends: self.ends.into(),
            of: PhantomData,
        }
    }
}

impl<M: Message + Default + 'static> Encoded<M> {
    /// Starts without messages. Capacity for `bytes` is reserved if possible, so that growth never needs a second
    /// copy; unused capacity costs no memory.
    pub(crate) fn builder(bytes: usize) -> EncodedBuilder<M> {
        let mut reserved = Vec::new();
        // Without it, there are only more copies.
        let _ = reserved.try_reserve_exact(bytes);
        EncodedBuilder {
            bytes: reserved,
            ends: Vec::new(),
            of: PhantomData,
        }
    }

    /// Decodes one message.
    pub(crate) fn get(&self, id: FeatureId) -> Option<M> {
        decode(&self.bytes, place(&self.ends, id)?)
    }

    /// A reply of these messages, in this order; unknown ids are skipped. It is sent as the connection polls
    /// it.
    ///
    /// tonic encodes the items of a handler's stream one by one, and offers no way to send encoded ones. So the
    /// stream of this response is empty, and the body is passed to [`in_place`] in the response's extensions,
    /// which tonic forwards unchanged.
    pub(crate) fn stream<I>(&self, which: I) -> Response<BoxStream<'static, Result<M, Status>>>
    where
        I: Iterator<Item = FeatureId> + Send + 'static,
    {
        let ends = self.ends.clone();
        let reply = Reply {
            bytes: self.bytes.clone(),
            places: which.filter_map(move |id| place(&ends, id)).peekable(),
            ended: false,
        };
        let mut response = Response::new(stream::empty().boxed());
        let body = Arc::new(Mutex::new(Some(Body::new(reply))));
        response.extensions_mut().insert(InPlace(body));
        response
    }
}

/// The range of a message.
fn place(ends: &[u32], id: FeatureId) -> Option<Range<usize>> {
    let index = id.index();
    let end = *ends.get(index)?;
    let start = match index.checked_sub(1) {
        Some(before) => *ends.get(before)?,
        None => 0,
    };
    Some(start as usize..end as usize)
}

fn decode<M: Message + Default>(bytes: &Bytes, place: Range<usize>) -> Option<M> {
    M::decode(bytes.get(place)?.get(PREFIX..)?).ok()
}

impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages in {} B", self.ends.len(), self.bytes.len())
    }
}

/// The body that replaces tonic's. A value in extensions must be `Clone`.
#[derive(Clone)]
struct InPlace(Arc<Mutex<Option<Body>>>);

/// A layer around the service that gives a response of [`Encoded::stream`] its own body.
pub(crate) fn in_place(mut response: http::Response<Body>) -> http::Response<Body> {
    let Some(InPlace(body)) = response.extensions_mut().remove() else {
        return response;
    };
    let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
    response.map(|empty| body.unwrap_or(empty))
}

/// The rest of a reply: the ranges of its messages in `bytes`.
struct Reply<P: Iterator> {
    bytes: Bytes,
    places: Peekable<P>,
    /// The trailers have been sent.
    ended: bool,
}

impl<P: Iterator<Item = Range<usize>>> Reply<P> {
    /// Adjacent messages that fill a piece are sent without a copy; all others are copied together.
    fn next_piece(&mut self) -> Option<Bytes> {
        let places = &mut self.places;
        let room = places.peek()?.len().max(PIECE);
        let first = next_run(places, room)?;
        if first.len() >= PIECE / 2 {
            return Some(self.bytes.slice(first));
        }
        // Assuming that all are as long as the first.
        let most = places.size_hint().1.unwrap_or(usize::MAX);
        let expected = first.len().saturating_mul(most.saturating_add(1));
        let mut piece = Vec::with_capacity(expected.min(PIECE));
        piece.extend_from_slice(&self.bytes[first]);
        while let Some(run) = next_run(places, PIECE.saturating_sub(piece.len())) {
            piece.extend_from_slice(&self.bytes[run]);
        }
        Some(piece.into())
    }
}

/// The range of the next message and of those directly after it, as far as they fit.
fn next_run(
    places: &mut Peekable<impl Iterator<Item = Range<usize>>>,
    room: usize,
) -> Option<Range<usize>> {
    let mut run = places.next_if(|first| first.len() <= room)?;
    let fits = |run: &Range<usize>, next: &Range<usize>| {
        next.start == run.end && next.end - run.start <= room
    };
    while let Some(next) = places.next_if(|next| fits(&run, next)) {
        run.end = next.end;
    }
    Some(run)
}

// No field is pinned.
impl<P: Iterator> Unpin for Reply<P> {}

impl<P: Iterator<Item = Range<usize>>> http_body::Body for Reply<P> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(piece) = self.next_piece() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.ended = true;
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::{iter, sync::Arc};

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;
    use prost::Message as _;
    use tonic::{Response, body::Body};

    use crate::feature_id::FeatureId;

    use super::{Encoded, PIECE, in_place};

    type Text = String;

    fn encoded(texts: &[Text]) -> Arc<Encoded<Text>> {
        let mut builder = Encoded::builder(0);
        for text in texts {
            builder.push(text).expect("room");
        }
        Arc::new(builder.build())
    }

    fn framed(text: &Text) -> Vec<u8> {
        let message = text.encode_to_vec();
        let length = u32::try_from(message.len()).expect("short");
        [&[0], &length.to_be_bytes()[..], &message].concat()
    }

    /// The pieces that are sent, without waiting, and the status after them.
    fn sent(
        response: Response<super::BoxStream<'static, Result<Text, tonic::Status>>>,
    ) -> (Vec<Bytes>, String) {
        let (_, _, extensions) = response.into_parts();
        let mut response = http::Response::new(Body::empty());
        *response.extensions_mut() = extensions;
        let mut body = in_place(response).into_body();
        let mut pieces = Vec::new();
        loop {
            let frame = body.frame().now_or_never().expect("no waiting");
            match frame.expect("trailers").expect("no error").into_data() {
                Ok(data) => pieces.push(data),
                Err(trailers) => {
                    let trailers = trailers.into_trailers().expect("trailers");
                    assert!(body.frame().now_or_never().expect("no waiting").is_none());
                    let status = trailers["grpc-status"].to_str().expect("a number");
                    return (pieces, status.to_owned());
                }
            }
        }
    }

    /// Texts of every length up to more than a piece, and which of them to send.
    fn selection() -> impl Strategy<Value = (Vec<Text>, Vec<u32>)> {
        let length = prop_oneof![20 => 0..100usize, 3 => 0..PIECE / 2, 1 => PIECE - 20..2 * PIECE];
        let texts = prop::collection::vec(length.prop_map(|length| "x".repeat(length)), 0..200);
        let runs = prop::collection::vec((0..220u32, 1..200u32), 0..8);
        let which = runs.prop_map(|runs| {
            let run = |(first, many)| first..first + many;
            runs.into_iter().flat_map(run).collect()
        });
        (texts, which)
    }

    proptest! {
        #[test]
        fn a_reply_is_what_was_chosen_in_whole_messages_and_full_pieces((texts, which) in selection()) {
            let replies = encoded(&texts);
            let chosen = which.iter().filter_map(|&number| texts.get(number as usize));
            let chosen: Vec<_> = chosen.map(framed).collect();
            let (pieces, status) = sent(replies.stream(which.clone().into_iter().map(FeatureId)));
            prop_assert_eq!(status, "0");
            prop_assert_eq!(pieces.concat(), chosen.concat());

            let ends = chosen.iter().scan(0, |end, message| { *end += message.len(); Some(*end) });
            let ends: Vec<usize> = ends.collect();
            let longest = chosen.iter().map(Vec::len).max().unwrap_or_default();
            let mut end = 0;
            for (index, piece) in pieces.iter().enumerate() {
                end += piece.len();
                prop_assert!(ends.contains(&end), "piece {index} ends within a message");
                prop_assert!(piece.len() <= PIECE.max(longest));
                if let Some(next) = pieces.get(index + 1) {
                    prop_assert!(piece.len() + next.len() > PIECE / 2, "pieces {index} and its next are crumbs");
                }
            }
        }
    }

    #[test]
    fn each_message_can_be_had_again() {
        let texts: Vec<Text> = (0..100).map(|length| "y".repeat(length)).collect();
        let replies = encoded(&texts);
        for (id, text) in (0..).map(FeatureId).zip(&texts) {
            assert_eq!(replies.get(id).as_ref(), Some(text));
        }
        assert_eq!(replies.get(FeatureId(100)), None);
    }

    #[test]
    fn nothing_is_drawn_before_it_is_asked_for() {
        let texts = vec!["z".repeat(PIECE)];
        let endless = encoded(&texts).stream(iter::repeat(FeatureId(0)));
        let (_, _, extensions) = endless.into_parts();
        let mut response = http::Response::new(Body::empty());
        *response.extensions_mut() = extensions;
        let mut body = in_place(response).into_body();
        for _ in 0..3 {
            let frame = body.frame().now_or_never().expect("no waiting");
            let data = frame
                .expect("more")
                .expect("no error")
                .into_data()
                .expect("data");
            assert_eq!(data, framed(&texts[0]));
        }
    }
}
