//! What a server serves: the services of its contract, and by whom a call is answered.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{Request, Response};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Status,
    codegen::{Service, StdError},
    server::NamedService,
};
use tower_layer::Layer;
use tracing::Span;

use crate::{
    services::{
        context::CallContext,
        handler::{Handler, ResponseFuture, ready_response},
        request_body::{Allowed, RequestBody},
    },
    telemetry::{metrics::MethodMetrics, trace_context::TraceId},
    wire::{compression::Compression, incoming::Incoming},
};

pub(crate) mod context;
pub(crate) mod handler;
pub mod health;
pub(crate) mod producer;
pub(crate) mod reflection;
pub(crate) mod request_body;
pub(crate) mod runtime;

/// Most bytes in a request message of a service added with [`Services::add_service`].
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The gRPC services of one server.
#[derive(Default)]
pub struct Services {
    added: Vec<Added>,
    layers: Vec<Box<dyn Fn(Handler) -> Handler + Send>>,
    descriptors: Vec<&'static [u8]>,
}

#[derive(Clone)]
struct Added {
    name: &'static str,
    handler: Handler,
    max_request_bytes: usize,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Services {
    /// Nothing yet. `descriptors` is an encoded `google.protobuf.FileDescriptorSet`: the files of what will be
    /// served, and all that they import.
    ///
    /// Of the services in it, those that are added have methods, with metrics and limits of their own. Server
    /// reflection describes every file as it is given, so a file belongs here if its services are added, or
    /// if its messages go out in a `google.protobuf.Any`. The chassis adds the health protocol, both versions
    /// of reflection's, and `google/rpc/{status,error_details}.proto`, with which tools print the details of a
    /// refusal; of files with one name, the first is taken. Descriptors that cannot be decoded fail
    /// [`Server::bind`](crate::Server::bind) where reflection is on.
    pub fn described_by(descriptors: &'static [u8]) -> Self {
        Self::default().and_described_by(descriptors)
    }

    /// Adds further descriptors, as [`described_by`](Self::described_by) has them.
    #[must_use]
    pub fn and_described_by(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors.push(descriptors);
        self
    }

    /// Adds a service: a server that tonic has generated, as it is or
    /// [intercepted](tonic::service::interceptor), or any tower service with a name. Request messages of
    /// more than [`MAX_REQUEST_BYTES`] are refused with RESOURCE_EXHAUSTED.
    ///
    /// The chassis decompresses requests and compresses replies; the server needs no settings for that.
    #[must_use]
    pub fn add_service<S, B>(self, service: S) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Error: Into<StdError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        self.add_service_limited(service, MAX_REQUEST_BYTES)
    }

    /// Adds a service whose request messages may have so many bytes, before and after decompression. Above
    /// 4 MiB, its own `max_decoding_message_size` has to be raised as well.
    #[must_use]
    pub fn add_service_limited<S, B>(mut self, service: S, max_request_bytes: usize) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Error: Into<StdError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        self.added.push(Added {
            name: S::NAME,
            handler: Handler::new(service),
            max_request_bytes,
        });
        self
    }

    /// Puts a tower layer around every service, those that are added later, too; the first layer is the
    /// outermost. A layer sees what a handler sees: authenticated calls within their limits, with their
    /// [`CallContext`], and none for health or reflection. What fails in it becomes a status.
    #[must_use]
    pub fn layer<L, B>(mut self, layer: L) -> Self
    where
        L: Layer<Handler> + Send + 'static,
        L::Service: Service<Request<RequestBody>, Response = Response<B>>,
        L::Service: Clone + Send + Sync + 'static,
        <L::Service as Service<Request<RequestBody>>>::Error: Into<StdError>,
        <L::Service as Service<Request<RequestBody>>>::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        self.layers
            .push(Box::new(move |inner| Handler::new(layer.layer(inner))));
        self
    }

    /// The same with the layers in place: what is added from now on is outside of them.
    pub(crate) fn layered(mut self) -> Self {
        let layers = std::mem::take(&mut self.layers);
        for Added { handler, .. } in &mut self.added {
            let inner = handler.clone();
            *handler = layers.iter().rev().fold(inner, |inner, layer| layer(inner));
        }
        self
    }

    /// The names of the services, such as `helloworld.Greeter`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.added.iter().map(|added| added.name)
    }

    pub(crate) fn descriptors(&self) -> &[&'static [u8]] {
        &self.descriptors
    }

    pub(crate) fn into_registry(self) -> Registry {
        let sets = self.descriptors.iter();
        // One that cannot be decoded describes nothing: its methods are UNIMPLEMENTED.
        let sets = sets.map(|bytes| FileDescriptorSet::decode(*bytes).unwrap_or_default());
        let mut methods = HashMap::new();
        for file in sets.flat_map(|set| set.file) {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let Some(added) = self.added.iter().position(|added| added.name == name) else {
                    continue;
                };
                for method in &service.method {
                    let path: Arc<str> = format!("/{name}/{}", method.name()).into();
                    let method = Method {
                        path: path.clone(),
                        role: Role::of(&path),
                        client_streaming: method.client_streaming(),
                        server_streaming: method.server_streaming(),
                        metrics: MethodMetrics::new(
                            &name,
                            method.name(),
                            method.client_streaming(),
                            method.server_streaming(),
                        ),
                        untraced: OnceLock::new(),
                        added,
                    };
                    methods.insert(path, Arc::new(method));
                }
            }
        }
        Registry {
            added: self.added,
            methods,
        }
    }
}

/// A method that is served, and that a descriptor knows.
#[derive(Debug)]
pub(crate) struct Method {
    /// `/package.Service/Method`.
    pub(crate) path: Arc<str>,
    pub(crate) role: Role,
    client_streaming: bool,
    server_streaming: bool,
    pub(crate) metrics: MethodMetrics,
    /// The span of its calls without a trace.
    untraced: OnceLock<Span>,
    /// Where its service is in the registry.
    added: usize,
}

/// What a method is to the limits, to authentication and to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `Check` or `List` of health.
    HealthCheck,
    /// `Watch` of health.
    HealthWatch,
    /// Any other.
    Rpc,
}

impl Role {
    fn of(path: &str) -> Self {
        match path {
            "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/List" => Self::HealthCheck,
            "/grpc.health.v1.Health/Watch" => Self::HealthWatch,
            _ => Self::Rpc,
        }
    }
}

impl Method {
    pub(crate) fn is_unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }

    pub(crate) fn is_client_streaming(&self) -> bool {
        self.client_streaming
    }

    /// The span in which the handler of a call runs: what it logs carries the fields. `--log call=off` turns it
    /// off. Calls without a trace share one, since nothing tells them apart and a span costs more than the
    /// handler of a short call.
    pub(crate) fn span(&self, trace_id: Option<TraceId>) -> Span {
        let new = || {
            let trace_id = trace_id.as_ref().map(TraceId::as_str);
            tracing::info_span!(target: "call", "call", method = &*self.path, trace_id)
        };
        match trace_id {
            Some(_) => new(),
            None => self.untraced.get_or_init(new).clone(),
        }
    }
}

/// The services of one server, by the paths of their methods.
///
/// A map instead of tonic's `Routes`: that is an axum router, a large dependency for one look-up.
pub(crate) struct Registry {
    added: Vec<Added>,
    methods: HashMap<Arc<str>, Arc<Method>>,
}

impl Registry {
    /// The method that a path names.
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// Has the service of the method answer.
    pub(crate) fn call(
        &self,
        mut request: Request<Incoming>,
        method: Option<&Method>,
        compression: Option<Compression>,
        context: &CallContext,
    ) -> ResponseFuture {
        let Some(method) = method else {
            return ready_response(self.unimplemented(context.method()).into_http());
        };
        let Added {
            handler,
            max_request_bytes,
            ..
        } = &self.added[method.added];
        let allowed = Allowed {
            message_bytes: *max_request_bytes,
            messages: if method.client_streaming { u64::MAX } else { 1 },
        };
        if method.role == Role::Rpc {
            request.extensions_mut().insert(context.clone());
        }
        // That of other methods is counted with their calls.
        let received = (method.metrics.received()).filter(|_| method.client_streaming);
        let received = received.cloned();
        let request = request.map(|body| RequestBody::new(body, compression, allowed, received));
        handler.clone().call(request)
    }

    fn unimplemented(&self, path: &str) -> Status {
        let service = (path.strip_prefix('/')).and_then(|path| path.split_once('/'));
        let is_served = |(name, _)| self.added.iter().any(|added| added.name == name);
        let missing = if service.is_some_and(is_served) {
            "method"
        } else {
            "service"
        };
        Status::unimplemented(format!("no {missing} at {path:.200}"))
    }
}
