//! What a server serves: the services of its contract, and by whom a call is answered.

use std::{collections::BTreeMap, convert::Infallible};

use http::{Request, Response};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};
use tonic_reflection::server::Builder as Reflection;

use crate::{
    Error,
    body::RequestBody,
    health::{self, Health},
};

type Answer = BoxFuture<Response<Body>, Infallible>;
type Handler = Box<dyn Fn(Request<RequestBody>) -> Answer + Send + Sync>;

/// The gRPC services of one server, by name.
///
/// A map instead of tonic's `Routes`: that is an axum router, a large dependency for one look-up.
#[derive(Default)]
pub struct Services {
    handlers: BTreeMap<&'static str, Handler>,
    descriptors: Vec<&'static [u8]>,
}

impl Services {
    /// Nothing yet. `descriptors` is the encoded `FileDescriptorSet` that describes what will be
    /// served.
    pub fn described_by(descriptors: &'static [u8]) -> Self {
        Self {
            handlers: BTreeMap::new(),
            descriptors: vec![descriptors],
        }
    }

    /// Adds a generated service.
    #[must_use]
    pub fn serve<S>(mut self, service: S) -> Self
    where
        S: Service<
                Request<RequestBody>,
                Response = Response<Body>,
                Error = Infallible,
                Future = Answer,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.handlers.insert(
            S::NAME,
            Box::new(move |request| service.clone().call(request)),
        );
        self
    }

    /// The names of the services, such as `helloworld.Greeter`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.handlers.keys().copied()
    }

    /// Adds the health service.
    pub(crate) fn with_health(mut self, health: Health) -> Self {
        self.descriptors.push(health::v1::FILE_DESCRIPTOR_SET);
        self.serve(health.into_server())
    }

    /// Adds server reflection, which lists exactly what is served: v1, and v1alpha because old tools
    /// ask for nothing else.
    pub(crate) fn with_reflection(self) -> Result<Self, Error> {
        const V1: &str = "grpc.reflection.v1.ServerReflection";
        const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
        let describe = || {
            let builder = (self.names().chain([V1, V1ALPHA]))
                .fold(Reflection::configure(), Reflection::with_service_name);
            let reflection = [
                tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            ];
            (self.descriptors.iter().copied().chain(reflection))
                .fold(builder, Reflection::register_encoded_file_descriptor_set)
        };
        let (v1, v1alpha) = (describe().build_v1()?, describe().build_v1alpha()?);
        Ok(self.serve(v1).serve(v1alpha))
    }

    /// Has the service answer that the path of the request, `/package.Service/Method`, names.
    pub(crate) async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match service.and_then(|(name, _)| self.handlers.get(name)) {
            Some(handler) => {
                let Ok(response) = handler(request).await;
                response
            }
            None => Status::unimplemented(format!("no service at {path:.200}")).into_http(),
        }
    }
}
