//! Which messages of a call are packed. The interop cases say and ask it of each message; tonic packs
//! all messages of a call or none, and does not tell how one came.

use std::{
    collections::VecDeque,
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compression, bufread::GzEncoder};
use http::{Extensions, HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use tonic::body::Body;

/// Which messages of a request or a response are to be sent packed, in their order; those that it does
/// not reach are not. An extension of what is sent.
#[derive(Debug, Clone)]
pub(crate) struct Pack(pub(crate) Vec<bool>);

/// Which messages of a request or a response have come packed. An extension of what has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed(Arc<Mutex<VecDeque<bool>>>);

impl Packed {
    /// Whether the next message has come packed; None if none has come.
    pub(crate) fn next(&self) -> Option<bool> {
        let mut flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flags.pop_front()
    }

    pub(crate) fn push(&self, packed: bool) {
        let mut flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flags.push_back(packed);
    }
}

/// Does to the messages of a body, as tonic has encoded it, what [`Pack`] says.
pub(crate) fn pack(headers: &mut HeaderMap, extensions: &mut Extensions, body: Body) -> Body {
    let Some(Pack(which)) = extensions.remove() else {
        return body;
    };
    if !which.contains(&true) {
        return body;
    }
    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    let mut which = which.into_iter();
    Body::new(body.map_frame(move |frame| {
        frame.map_data(|messages| repack(messages, || which.next().unwrap_or_default()))
    }))
}

/// Packs some of these messages. tonic does not cut a message in two.
fn repack(mut messages: Bytes, mut pack: impl FnMut() -> bool) -> Bytes {
    let mut repacked = BytesMut::new();
    while !messages.is_empty() {
        let flag = messages.get_u8();
        let length = messages.get_u32();
        let message = messages.split_to(length as usize);
        let (flag, message) = if pack() {
            (1, gzip(&message))
        } else {
            (flag, message)
        };
        repacked.put_u8(flag);
        repacked.put_u32(u32::try_from(message.len()).expect("a short message"));
        repacked.put(message);
    }
    repacked.freeze()
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut packed = Vec::new();
    let mut encoder = GzEncoder::new(bytes, Compression::default());
    encoder.read_to_end(&mut packed).expect("enough memory");
    packed.into()
}
