//! gRPC on the wire, without a connection: framing, headers, codes, compression.

pub(crate) mod address;
pub(crate) mod certificate;
pub(crate) mod compression;
pub(crate) mod framing;
pub(crate) mod incoming;
pub(crate) mod protocol;
pub(crate) mod status;
pub(crate) mod timeout;
