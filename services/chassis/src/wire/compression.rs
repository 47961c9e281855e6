//! How messages are compressed and decompressed.
//!
//! tonic could do both, but reads only the first member of a gzip message (RFC 1952, 2.2, allows several)
//! and takes what stands behind it for nothing; and its settings are out of reach once a server has been put
//! into an interceptor or a layer.
//! <https://github.com/grpc/grpc/blob/master/doc/compression.md>

use std::{
    io::{self, BufRead, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::bufread::{GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body, codec::SingleMessageCompressionOverride};

use crate::wire::framing::message_length;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const PREFIX: usize = 5;

/// How the messages of a request may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    /// As zlib writes it (RFC 1950).
    Deflate,
    Zstd,
}

/// How the messages of a call are compressed, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) request: Option<Compression>,
    pub(crate) reply: Option<Compression>,
}

/// Finds out how a request is compressed, and has the reply compressed likewise if the client accepts that.
/// Nearly every client accepts gzip, but "Hello" grows by it; grpc-go does likewise.
pub(crate) fn negotiate(headers: &mut HeaderMap) -> Result<Negotiated, Status> {
    let request = match headers.remove(&ENCODING) {
        None => None,
        Some(encoding) => match encoding.as_bytes() {
            b"identity" => None,
            b"gzip" => Some(Compression::Gzip),
            b"deflate" => Some(Compression::Deflate),
            b"zstd" => Some(Compression::Zstd),
            other => {
                let other = String::from_utf8_lossy(other);
                let text = format!("grpc-encoding: {other:.50} is not supported");
                return Err(Status::unimplemented(text));
            }
        },
    };
    let reply = request.filter(|compression| accepts(headers, compression.name()));
    headers.remove(ACCEPT_ENCODING);
    Ok(Negotiated { request, reply })
}

/// A client that does not say what it accepts accepts what it sends.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let mut accepted = headers.get_all(ACCEPT_ENCODING).iter().peekable();
    accepted.peek().is_none()
        || accepted.any(|line| {
            let mut names = line.as_bytes().split(|byte| *byte == b',');
            names.any(|name| name.trim_ascii() == encoding.as_bytes())
        })
}

/// Says how requests may be compressed.
pub(crate) fn offer_encodings(headers: &mut HeaderMap) {
    const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,deflate,gzip,zstd");
    headers.insert(ACCEPT_ENCODING, ENCODINGS);
}

/// Compresses the messages of a response, unless it is a status alone, its service has compressed it, or its
/// handler has called [`tonic::Response::disable_compression`].
pub(crate) fn compress(response: Response<Body>, compression: Compression) -> Response<Body> {
    let extensions = response.extensions();
    let disabled = extensions.get() == Some(&SingleMessageCompressionOverride::Disable);
    let is_compressed = response.headers().contains_key(ENCODING);
    if disabled || is_compressed || response.body().is_end_stream() {
        return response;
    }
    let mut response = response.map(|inner| {
        Body::new(CompressedBody {
            inner,
            compression,
            pending: BytesMut::new(),
        })
    });
    let name = HeaderValue::from_static(compression.name());
    response.headers_mut().insert(ENCODING, name);
    response
}

/// A response body whose messages are compressed.
struct CompressedBody {
    inner: Body,
    compression: Compression,
    /// What has come of the next message.
    pending: BytesMut,
}

impl CompressedBody {
    /// Takes data; returns the messages that are complete, compressed.
    fn feed(&mut self, data: &[u8]) -> Bytes {
        self.pending.extend_from_slice(data);
        let mut messages = BytesMut::new();
        while let Some(mut message) = next_message(&mut self.pending) {
            match self.compression.compress(&message[PREFIX..]) {
                Ok(compressed) => put_message(&mut messages, 1, &compressed),
                // Memory does not fail to be read. If it did, the message would go out as it is.
                Err(_) => messages.put(&mut message),
            }
        }
        messages.freeze()
    }
}

impl http_body::Body for CompressedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    let messages = self.feed(&data);
                    if !messages.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(messages))));
                    }
                }
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Takes the next message with its prefix, if all of it is there.
fn next_message(pending: &mut BytesMut) -> Option<BytesMut> {
    let end = PREFIX + message_length(pending.first_chunk::<PREFIX>()?);
    (pending.len() >= end).then(|| pending.split_to(end))
}

/// `message` is far below 4 GiB.
fn put_message(messages: &mut BytesMut, flag: u8, message: &[u8]) {
    messages.put_u8(flag);
    messages.put_u32(message.len() as u32);
    messages.put_slice(message);
}

/// Decompresses the messages of a request, which come cut at any place. The length of each has been checked.
#[derive(Debug)]
pub(crate) struct Decompressor {
    compression: Compression,
    /// Bytes of a message, decompressed.
    most: usize,
    /// What has come of the next message.
    pending: BytesMut,
}

impl Decompressor {
    pub(crate) fn new(compression: Compression, most: usize) -> Self {
        Self {
            compression,
            most,
            pending: BytesMut::new(),
        }
    }

    /// Takes data; returns the messages that are complete, uncompressed, and what is wrong with the next.
    pub(crate) fn feed(&mut self, data: &[u8]) -> (Bytes, Option<Status>) {
        self.pending.extend_from_slice(data);
        let mut messages = BytesMut::new();
        while let Some(mut message) = next_message(&mut self.pending) {
            let is_compressed = message[0] == 1;
            if !is_compressed {
                messages.unsplit(message);
                continue;
            }
            message.advance(PREFIX);
            match self.compression.decompress(&message, self.most) {
                Ok(message) => put_message(&mut messages, 0, &message),
                Err(status) => return (messages.freeze(), Some(status)),
            }
        }
        (messages.freeze(), None)
    }

    /// What has come of a message that will never be complete.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.pending.split().freeze()
    }
}

impl Compression {
    /// As `grpc-encoding` says it.
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn compress(self, message: &[u8]) -> io::Result<Vec<u8>> {
        let level = flate2::Compression::default();
        let mut compressed = Vec::new();
        match self {
            Self::Gzip => GzEncoder::new(message, level).read_to_end(&mut compressed)?,
            Self::Deflate => ZlibEncoder::new(message, level).read_to_end(&mut compressed)?,
            Self::Zstd => zstd::stream::read::Encoder::with_buffer(message, 0)?
                .read_to_end(&mut compressed)?,
        };
        Ok(compressed)
    }

    fn decompress(self, message: &[u8], most: usize) -> Result<Vec<u8>, Status> {
        let decompressed = match self {
            Self::Gzip => read(&mut MultiGzDecoder::new(message), most),
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(message);
                read(&mut decoder, most)
                    .and_then(|read| at_end(decoder.into_inner()).map(|()| read))
            }
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(message)
                .and_then(|mut decoder| read(&mut decoder, most)),
        };
        match decompressed {
            Ok(message) if message.len() > most => Err(Status::resource_exhausted(format!(
                "a message of more than {most} bytes when decompressed"
            ))),
            Ok(message) => Ok(message),
            Err(error) => Err(Status::internal(format!("cannot decompress: {error}"))),
        }
    }
}

/// Reads to the end, or to the first byte that is too much.
fn read(decoder: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut decompressed = Vec::new();
    let limit = most as u64 + 1;
    decoder.take(limit).read_to_end(&mut decompressed)?;
    Ok(decompressed)
}

fn at_end(mut rest: impl BufRead) -> io::Result<()> {
    match rest.fill_buf()? {
        [] => Ok(()),
        _ => Err(io::Error::other("data behind the end")),
    }
}
