//! What a server serves: the services of its contract, and by whom a call is answered.

pub(crate) mod encoded;
pub mod health;
pub(crate) mod producer;
pub(crate) mod request_body;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    future::ready,
    sync::{Arc, OnceLock},
};

use http::{Request, Response};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};
use tonic_reflection::server::Builder as Reflection;

use crate::{
    Error,
    services::{
        health::Health,
        request_body::{Allowed, RequestBody, Traffic},
    },
    state::dependency::{Dependencies, Dependency},
    telemetry::metrics::MethodCounts,
    wire::{compression::Compression, incoming::Incoming},
};

/// A call in progress, to the head of its response.
pub(crate) type Answer = BoxFuture<Response<Body>, Infallible>;
type Handler = Box<dyn Fn(Request<RequestBody>) -> Answer + Send + Sync>;

/// The gRPC services of one server, by name.
///
/// A map instead of tonic's `Routes`: that is an axum router, a large dependency for one look-up.
#[derive(Default)]
pub struct Services {
    served: BTreeMap<&'static str, Served>,
    descriptors: Vec<&'static [u8]>,
    /// By path, `/package.Service/Method`: all that the descriptors know.
    methods: HashMap<String, Arc<Method>>,
    pub(crate) dependencies: Dependencies,
}

struct Served {
    handler: Handler,
    longest_request: usize,
}

/// A call that needs no service.
pub(crate) fn answered(response: Response<Body>) -> Answer {
    Box::pin(ready(Ok(response)))
}

/// A method that a descriptor knows.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) path: Arc<str>,
    client_streaming: bool,
    server_streaming: bool,
    pub(crate) counts: OnceLock<MethodCounts>,
}

impl Method {
    pub(crate) fn is_unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }
}

/// Adds a generated service to [`Services`], as one that takes requests of at most `longest` bytes,
/// compressed and decompressed, and may compress its replies.
///
/// A macro, because the servers that tonic generates have these settings but no trait for them.
#[macro_export]
macro_rules! serve {
    ($services:expr, $server:expr, $longest:expr) => {
        $services.serve(
            $server
                .max_decoding_message_size($longest)
                .send_compressed($crate::Encoding::Deflate)
                .send_compressed($crate::Encoding::Gzip)
                .send_compressed($crate::Encoding::Zstd),
            $longest,
        )
    };
}

impl Services {
    /// Nothing yet. `descriptors` is the encoded `FileDescriptorSet` that describes what will be
    /// served.
    pub fn described_by(descriptors: &'static [u8]) -> Self {
        Self::default().and_described_by(descriptors)
    }

    fn and_described_by(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors.push(descriptors);
        let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let method = Method {
                        path: path.as_str().into(),
                        client_streaming: method.client_streaming(),
                        server_streaming: method.server_streaming(),
                        counts: OnceLock::new(),
                    };
                    self.methods.insert(path, Arc::new(method));
                }
            }
        }
        self
    }

    /// Adds a generated service that takes requests of at most `longest_request` bytes. Call it through
    /// [`serve!`](crate::serve), which has the service itself keep to that.
    #[must_use]
    pub fn serve<S>(mut self, service: S, longest_request: usize) -> Self
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
        let served = Served {
            handler: Box::new(move |request| service.clone().call(request)),
            longest_request,
        };
        self.served.insert(S::NAME, served);
        self
    }

    /// Names something that the services ask for elsewhere. The service that is named, if any, is
    /// NOT_SERVING while it is away.
    pub fn depend_on(&self, name: &'static str, required_by: Option<&'static str>) -> Dependency {
        self.dependencies.add(name, required_by)
    }

    /// The names of the services, such as `helloworld.Greeter`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.served.keys().copied()
    }

    /// Adds the health service.
    pub(crate) fn with_health(self, health: Health) -> Self {
        const LONGEST_REQUEST: usize = 1024;
        let described = self.and_described_by(health::v1::FILE_DESCRIPTOR_SET);
        serve!(described, health.into_server(), LONGEST_REQUEST)
    }

    /// Adds server reflection, which lists exactly what is served: v1, and v1alpha because old tools
    /// ask for nothing else.
    pub(crate) fn with_reflection(self) -> Result<Self, Error> {
        const V1: &str = "grpc.reflection.v1.ServerReflection";
        const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
        const LONGEST_REQUEST: usize = 4096;
        let described = self
            .and_described_by(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .and_described_by(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
        let describe = || {
            let builder = (described.names().chain([V1, V1ALPHA]))
                .fold(Reflection::configure(), Reflection::with_service_name);
            (described.descriptors.iter().copied())
                .fold(builder, Reflection::register_encoded_file_descriptor_set)
        };
        let (v1, v1alpha) = (describe().build_v1()?, describe().build_v1alpha()?);
        let both = serve!(described, v1, LONGEST_REQUEST);
        Ok(serve!(both, v1alpha, LONGEST_REQUEST))
    }

    /// The method that a path names, whether or not it is served.
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// Has the service answer that the path of the request, `/package.Service/Method`, names.
    pub(crate) fn call(
        &self,
        request: Request<Incoming>,
        method: Option<&Arc<Method>>,
        compression: Option<Compression>,
        traffic: Arc<Traffic>,
    ) -> Answer {
        let path = request.uri().path();
        let Some(service) = self.service(path) else {
            return answered(
                Status::unimplemented(format!("no service at {path:.200}")).into_http(),
            );
        };
        let Some(method) = method else {
            return answered(
                Status::unimplemented(format!("no method at {path:.200}")).into_http(),
            );
        };
        let allowed = Allowed {
            message_bytes: service.longest_request,
            messages: if method.client_streaming { u64::MAX } else { 1 },
        };
        (service.handler)(request.map(|body| RequestBody::new(body, compression, allowed, traffic)))
    }

    fn service(&self, path: &str) -> Option<&Served> {
        let (name, _) = path.strip_prefix('/')?.split_once('/')?;
        self.served.get(name)
    }
}
