//! What the peers of a fuzzed server call.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use tonic::{Status, body::Body, codegen::Service, server::NamedService};

use crate::{
    call::{
        Shared,
        auth::Auth,
        call_limit::{CallLimit, Counter},
        served_by::Identity,
    },
    services::{
        Services, handler::ResponseFuture, health::Health, reflection, request_body::RequestBody,
        runtime::Runtime,
    },
    settings::config::Config,
    telemetry::throttle::Throttle,
};

/// How many answers may be read on behind.
pub(super) const LINGERING: usize = 4;

/// All that a server has but its listeners.
pub(super) async fn shared(config: &Config, reflects: bool) -> Arc<Shared> {
    let Runtime {
        lifecycle,
        dependencies,
        metrics,
        ..
    } = Runtime::new("fuzzed");
    let services = Services::described_by(&DESCRIPTOR).add_service_limited(Any, 1000);
    let heartbeat = *config.limits.watch_heartbeat;
    let health = Health::new(
        services.names(),
        lifecycle.clone(),
        dependencies.clone(),
        heartbeat,
    );
    let services = health.add_to(services);
    let services = match reflects {
        true => reflection::add_to(services).expect("descriptors"),
        false => services,
    };
    Arc::new(Shared {
        registry: services.into_registry(),
        identity: Identity::find(config, (Ipv4Addr::LOCALHOST, 9000).into()).await,
        metrics,
        lifecycle,
        dependencies,
        auth: Auth::default(),
        warnings: Throttle::default(),
        health_checks: Mutex::default(),
        calls: CallLimit::new(&config.limits),
        lingering: Counter::new(LINGERING),
        limits: config.limits.clone(),
    })
}

/// Methods of all kinds, of which each does one thing.
#[derive(Clone)]
struct Any;

impl NamedService for Any {
    const NAME: &'static str = "fuzz.Any";
}

static DESCRIPTOR: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let method = |(name, client_streaming, server_streaming): (&str, _, _)| MethodDescriptorProto {
        name: Some(name.to_owned()),
        client_streaming: Some(client_streaming),
        server_streaming: Some(server_streaming),
        ..MethodDescriptorProto::default()
    };
    let methods = [
        ("Echo", true, true),
        ("Collect", true, false),
        ("Deaf", true, false),
        ("Never", false, false),
        ("Large", false, true),
    ];
    let service = ServiceDescriptorProto {
        name: Some("Any".to_owned()),
        method: methods.map(method).into(),
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("fuzz.proto".to_owned()),
        package: Some("fuzz".to_owned()),
        service: vec![service],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
});

impl Service<Request<RequestBody>> for Any {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> ResponseFuture {
        let (head, body) = request.into_parts();
        Box::pin(async move {
            Ok(match head.uri.path() {
                "/fuzz.Any/Echo" => Response::new(Body::new(body)),
                "/fuzz.Any/Collect" => match body.collect().await {
                    Ok(_) => Status::ok("").into_http(),
                    Err(status) => status.into_http(),
                },
                "/fuzz.Any/Deaf" => Status::invalid_argument("whatever it is").into_http(),
                "/fuzz.Any/Large" => {
                    Response::new(Body::new(Full::new(Bytes::from_static(&[0; 200_000]))))
                }
                _ => std::future::pending().await,
            })
        })
    }
}
