//! The contract of the suite, generated from the two `.proto` files beside this crate's manifest.
//!
//! Messages also serialise to JSON, with the field names of the ProtoJSON mapping; fields at their
//! default value are written out.

/// `helloworld.Greeter` and its messages.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod helloworld {
    tonic::include_proto!("helloworld");
}

/// `routeguide.RouteGuide` and its messages.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod routeguide {
    tonic::include_proto!("routeguide");
}

/// Both files as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");
