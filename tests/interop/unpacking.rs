//! Which messages of a response have come packed.

use bytes::Bytes;
use http::Extensions;
use http_body_util::BodyExt as _;
use tonic::{body::Body, codegen::StdError};

use crate::packing::Packed;

/// Has [`Packed`] tell of the messages of a body.
pub(crate) fn watch<B>(extensions: &mut Extensions, body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    let packed = Packed::default();
    extensions.insert(packed.clone());
    let mut messages = Messages::default();
    Body::new(body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            messages.feed(data, |flag| packed.push(flag == 1));
        }
        frame
    }))
}

/// Finds the messages in a body that comes cut at any place.
#[derive(Default)]
struct Messages {
    /// As much as has come of a flag byte and a length of four.
    prefix: Vec<u8>,
    /// What has not come of a message.
    left: usize,
}

impl Messages {
    fn feed(&mut self, mut data: &[u8], mut flag: impl FnMut(u8)) {
        while !data.is_empty() {
            let wanted = if self.left > 0 {
                self.left
            } else {
                5 - self.prefix.len()
            };
            let (taken, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            if self.left > 0 {
                self.left -= taken.len();
                continue;
            }
            self.prefix.extend_from_slice(taken);
            if let &[first, a, b, c, d] = self.prefix.as_slice() {
                flag(first);
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.prefix.clear();
            }
        }
    }
}
