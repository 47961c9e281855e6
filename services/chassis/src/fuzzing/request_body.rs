use std::{
    io::Write as _,
    pin::pin,
    task::{Context, Poll, Waker},
};

use arbitrary::Unstructured;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http_body::Body as _;
use tonic::Code;

use super::{byte, bytes, pieces};
use crate::{
    services::request_body::{Allowed, RequestBody},
    wire::{compression::Compression, framing::message_length, incoming::ByHand},
};

/// The longest message that is allowed, as it comes and decompressed.
const LONGEST: usize = 1000;

/// How a request ends.
#[derive(Clone, Copy)]
enum End {
    Complete,
    Trailers,
    Failed,
}

/// A request, and what it is to be taken for.
struct Request {
    compression: Option<Compression>,
    allowed: Allowed,
    end: End,
    stream: Vec<u8>,
    /// What has been compressed, and from what.
    packed: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a service gets: data, and the code of the error behind it.
#[derive(Debug, PartialEq)]
struct Got {
    data: Vec<u8>,
    code: Code,
}

/// Messages that are allowed reach the service as they were before they were compressed, wherever they are cut; the
/// first that is not allowed or cannot be decompressed is an error with its code, and nothing comes behind it; what
/// comes is no longer than it may be.
///
/// Input: compression, whether one message is allowed (even) or many, the end, four cuts; then messages, each a byte for
/// its kind and what it is made of.
pub fn request_body(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let compression = match byte(&mut input) % 4 {
        0 => None,
        1 => Some(Compression::Gzip),
        2 => Some(Compression::Deflate),
        _ => Some(Compression::Zstd),
    };
    let messages = if byte(&mut input).is_multiple_of(2) {
        1
    } else {
        u64::MAX
    };
    let end = match byte(&mut input) % 3 {
        0 => End::Complete,
        1 => End::Trailers,
        _ => End::Failed,
    };
    let cuts = [(); 4].map(|()| byte(&mut input));
    let mut request = Request {
        compression,
        allowed: Allowed {
            message_bytes: LONGEST,
            messages,
        },
        end,
        stream: Vec::new(),
        packed: Vec::new(),
    };
    while !input.is_empty() && request.stream.len() < 0x1_0000 {
        request.add(&mut input);
    }
    let whole = request.play(&[0]);
    let cut = request.play(&cuts);
    assert_eq!(cut.code, whole.code);
    // Of a message that is refused, the beginning may have been handed on before it was known how long it is.
    let beginning = cut
        .data
        .strip_prefix(whole.data.as_slice())
        .expect("the same messages");
    assert!(
        beginning.is_empty() || cut.code != Code::Ok && beginning.len() < 5,
        "{beginning:?}"
    );
    if let Some(expected) = request.expected() {
        assert_eq!(whole, expected);
    }
    request.check_lengths(&whole.data);
}

impl Request {
    /// Adds a message, or something like one.
    fn add(&mut self, input: &mut Unstructured<'_>) {
        let kind = byte(input) % 7;
        let payload = bytes(input);
        let mut message = match kind {
            // Anything.
            0 => return self.stream.extend(payload),
            1 | 2 => payload.to_vec(),
            // Many times the same, also when unpacked.
            _ => payload.repeat(1 + usize::from(byte(input))),
        };
        if kind >= 4 {
            let plain = message;
            message = self.pack(&plain);
            if kind == 5 {
                message = [self.pack(&plain), message].concat();
            }
            match (kind, self.compression) {
                // zlib knows one stream, and nothing may stand behind it.
                (5, Some(Compression::Deflate)) => {}
                (5, _) => self.packed.push((message.clone(), plain.repeat(2))),
                _ => self.packed.push((message.clone(), plain)),
            }
            let at = usize::from(byte(input)).min(message.len().saturating_sub(1));
            if let Some(damaged) = message.get_mut(at).filter(|_| kind == 6) {
                *damaged ^= byte(input);
            }
        }
        self.stream.push((kind >= 2).into());
        self.stream.extend((message.len() as u32).to_be_bytes());
        self.stream.append(&mut message);
    }

    fn pack(&self, plain: &[u8]) -> Vec<u8> {
        let fast = flate2::Compression::fast();
        match self.compression {
            Some(Compression::Gzip) => {
                let mut encoder = GzEncoder::new(Vec::new(), fast);
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Some(Compression::Deflate) => {
                let mut encoder = ZlibEncoder::new(Vec::new(), fast);
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Some(Compression::Zstd) => zstd::encode_all(plain, 1),
            None => Ok(plain.to_vec()),
        }
        .expect("compressed")
    }

    /// What a service gets of this request in these pieces.
    fn play(&self, cuts: &[u8]) -> Got {
        let (by_hand, incoming) = ByHand::new();
        let mut body = pin!(RequestBody::new(
            incoming,
            self.compression,
            self.allowed,
            None
        ));
        let mut got = Got {
            data: Vec::new(),
            code: Code::Ok,
        };
        let mut poll = |ended: bool| loop {
            let is_over = body.is_end_stream();
            match body
                .as_mut()
                .poll_frame(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Pending => {
                    return assert!(!ended && got.code == Code::Ok, "waits for nothing");
                }
                Poll::Ready(None) => return assert!(ended && got.code == Code::Ok, "ends early"),
                Poll::Ready(Some(Err(status))) if got.code != Code::Ok => {
                    return assert_eq!(status.code(), got.code, "another error");
                }
                Poll::Ready(Some(Err(status))) => got.code = status.code(),
                Poll::Ready(Some(Ok(frame))) => {
                    assert!(got.code == Code::Ok && !is_over, "more behind the end");
                    got.data.extend(frame.into_data().unwrap_or_default());
                }
            }
        };
        for (index, piece) in pieces(cuts, &self.stream).into_iter().enumerate() {
            by_hand.push(Bytes::copy_from_slice(piece));
            // Now and then, two come together.
            if index % 3 > 0 {
                poll(false);
            }
        }
        match self.end {
            End::Complete => by_hand.complete(None),
            End::Trailers => by_hand.complete(Some(HeaderMap::new())),
            End::Failed => by_hand.fail("reset"),
        }
        poll(true);
        poll(true);
        got
    }
}

impl Request {
    /// What a service is to get; None if that is for a decompressor to say.
    fn expected(&self) -> Option<Got> {
        let mut got = Got {
            data: Vec::new(),
            code: Code::Ok,
        };
        let mut rest = self.stream.as_slice();
        let mut messages = 0;
        while let Some(prefix) = rest.first_chunk::<5>() {
            let length = message_length(prefix);
            let too_many = messages == self.allowed.messages;
            if too_many || length > LONGEST {
                got.code = if too_many {
                    Code::Unimplemented
                } else {
                    Code::ResourceExhausted
                };
                return Some(got);
            }
            let Some((message, behind)) = rest.split_at_checked(5 + length) else {
                break;
            };
            (rest, messages) = (behind, messages + 1);
            if self.compression.is_none() || prefix[0] != 1 {
                got.data.extend(message);
                continue;
            }
            let (_, plain) = self
                .packed
                .iter()
                .find(|(packed, _)| *packed == message[5..])?;
            if plain.len() > LONGEST {
                got.code = Code::ResourceExhausted;
                return Some(got);
            }
            got.data.push(0);
            got.data.extend((plain.len() as u32).to_be_bytes());
            got.data.extend(plain);
        }
        // A message that is not whole is for tonic to complain of, if the client has come to its end.
        if self.compression.is_none() || !matches!(self.end, End::Failed) {
            got.data.extend(rest);
        }
        got.code = match self.end {
            End::Failed => Code::Aborted,
            _ if self.stream.is_empty() && self.allowed.messages == 1 => Code::Unimplemented,
            _ => Code::Ok,
        };
        Some(got)
    }

    /// No message is longer than it may be, and there are no more than there may be.
    fn check_lengths(&self, mut data: &[u8]) {
        let mut messages = 0;
        while let Some(prefix) = data.first_chunk::<5>() {
            let length = message_length(prefix);
            assert!(length <= LONGEST, "{length} bytes");
            messages += 1;
            data = data.get(5 + length..).unwrap_or_default();
        }
        assert!(messages <= self.allowed.messages, "{messages} messages");
    }
}
