//! The interop contract, generated from `testing.proto`, and the payloads that all of its messages carry.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

tonic::include_proto!("grpc.testing");

impl Payload {
    /// So many bytes of nothing.
    pub fn zeros(bytes: usize) -> Self {
        let body = vec![0; bytes];
        Self { body }
    }
}
