//! The contract of the suite, generated from the two `.proto` files beside this crate's manifest.
//!
//! Messages also serialise to JSON, with the field names of the ProtoJSON mapping; fields at their
//! default value are written out.

use std::marker::PhantomData;

use prost::{Message, bytes::Buf as _};
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// `helloworld.Greeter` and its messages.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod helloworld {
    tonic::include_proto!("helloworld");
    /// `helloworld.proto` as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("helloworld");
}

/// `routeguide.RouteGuide` and its messages.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod routeguide {
    tonic::include_proto!("routeguide");
    /// `route_guide.proto` as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("route_guide");
}

/// tonic's codec with buffers that begin at the size of our messages. Its own take 8 KiB twice for every
/// call, which is a tenth of the work of a short one.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// Decodes a message in place. tonic's decoder checks its buffer again for each field, which is an eighth of
/// the work of a stream of short messages.
#[derive(Debug, Clone)]
pub struct Decoder<U>(PhantomData<U>);

/// In bytes: where a buffer begins, and what a stream may gather in it before it is sent.
fn buffers() -> BufferSettings {
    BufferSettings::new(256, 32 * 1024)
}

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(buffers())
    }

    fn decoder(&mut self) -> Decoder<U> {
        Decoder(PhantomData)
    }
}

impl<U: Message + Default> codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The whole message, which tonic has gathered before.
        let message = buffer.chunk();
        let decoded = U::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        buffer.advance(buffer.remaining());
        Ok(Some(decoded))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
