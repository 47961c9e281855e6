//! Server reflection: v1, and v1alpha because old tools ask for nothing else.

use tonic_reflection::{
    pb::{v1, v1alpha},
    server::Builder,
};

use crate::{services::Services, settings::Error};

/// Adds server reflection, which lists exactly what is served.
pub(crate) fn add_to(services: Services) -> Result<Services, Error> {
    const V1: &str = "grpc.reflection.v1.ServerReflection";
    const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
    const MAX_REQUEST_BYTES: usize = 4096;
    let services = services
        .and_described_by(v1::FILE_DESCRIPTOR_SET)
        .and_described_by(v1alpha::FILE_DESCRIPTOR_SET);
    let mut names: Vec<_> = services.names().collect();
    names.sort_unstable();
    names.extend([V1, V1ALPHA]);
    let describe = || {
        let builder =
            (names.iter().copied()).fold(Builder::configure(), Builder::with_service_name);
        (services.descriptors().iter().copied())
            .fold(builder, Builder::register_encoded_file_descriptor_set)
    };
    let (v1, v1alpha) = (describe().build_v1()?, describe().build_v1alpha()?);
    Ok(services
        .add_service_limited(v1, MAX_REQUEST_BYTES)
        .add_service_limited(v1alpha, MAX_REQUEST_BYTES))
}
