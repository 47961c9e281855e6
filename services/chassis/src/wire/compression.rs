//! How messages are compressed, and those of requests decompressed.
//!
//! tonic could do the latter, but reads only the first member of a gzip message (RFC 1952, 2.2, allows
//! several) and takes what stands behind it for nothing.
//! <https://github.com/grpc/grpc/blob/master/doc/compression.md>

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

use crate::services::request_body::message_length;

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

/// Finds out how a request is compressed, and has the reply compressed likewise if the client accepts that.
/// Nearly every client accepts gzip, but "Hello" grows by it; grpc-go does likewise.
pub(crate) fn negotiate(headers: &mut HeaderMap) -> Result<Option<Compression>, Status> {
    let accepted = match headers.remove(&ENCODING) {
        None => None,
        Some(encoding) => match encoding.as_bytes() {
            b"identity" => None,
            b"gzip" => Some((encoding, Compression::Gzip)),
            b"deflate" => Some((encoding, Compression::Deflate)),
            b"zstd" => Some((encoding, Compression::Zstd)),
            other => {
                let other = String::from_utf8_lossy(other);
                let text = format!("grpc-encoding: {other:.50} is not supported");
                return Err(Status::unimplemented(text));
            }
        },
    };
    let reply = accepted
        .as_ref()
        .map(|(encoding, _)| encoding)
        .filter(|encoding| accepts(headers, encoding))
        .cloned();
    match reply {
        Some(encoding) => headers.insert(ACCEPT_ENCODING, encoding),
        None => headers.remove(ACCEPT_ENCODING),
    };
    Ok(accepted.map(|(_, compression)| compression))
}

/// A client that does not say what it accepts accepts what it sends.
fn accepts(headers: &HeaderMap, encoding: &HeaderValue) -> bool {
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
        while let Some(prefix) = self.pending.first_chunk::<PREFIX>() {
            let end = PREFIX + message_length(prefix);
            if self.pending.len() < end {
                break;
            }
            let is_compressed = prefix[0] == 1;
            let mut message = self.pending.split_to(end);
            if !is_compressed {
                messages.unsplit(message);
                continue;
            }
            message.advance(PREFIX);
            match self.compression.decompress(&message, self.most) {
                Ok(message) => {
                    messages.put_u8(0);
                    // At most `most`, which is far below 4 GiB.
                    messages.put_u32(message.len() as u32);
                    messages.put_slice(&message);
                }
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
