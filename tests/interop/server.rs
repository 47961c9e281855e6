//! The `interop-server` program: gRPC's interop service on the suite's chassis.

use std::{convert::Infallible, future::ready, process::ExitCode, task};

use bytes::Bytes;
use chassis::{App, RequestBody, Services};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};

mod packing;
mod service;
mod testing;

use service::TestService;
use testing::test_service_server::TestServiceServer;

const APP: App<Settings> = App {
    name: "interop-server",
    about: "grpc.testing.TestService, for the interop cases of gRPC",
    listen_port: 0,
    build: |_, _| {
        let services = Services::described_by(tonic::include_file_descriptor_set!("testing"));
        let server = Tapped(TestServiceServer::new(TestService));
        Box::pin(ready(Ok(services.add_service_limited(server, LONGEST))))
    },
};

/// Bytes of a request, and of the payload of a response.
const LONGEST: usize = 1024 * 1024;

/// Nothing: the service has no settings of its own.
#[derive(Debug, Clone, clap::Args)]
struct Settings {}

fn main() -> ExitCode {
    chassis::main(APP)
}

/// The service, with what tonic hides of a call: which messages are packed, and the trailers of one
/// that ends well.
#[derive(Clone)]
struct Tapped(TestServiceServer<TestService>);

impl NamedService for Tapped {
    const NAME: &str = TestServiceServer::<TestService>::NAME;
}

impl Service<Request<RequestBody>> for Tapped {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let [initial, trailing] = [ECHO_INITIAL, ECHO_TRAILING].map(|name| {
            let value = parts.headers.get(&name).cloned();
            value.map(|value| (name, value))
        });
        let packed = packing::Packed::default();
        parts.extensions.insert(packed.clone());
        let body = body.inspect_compressed(move |compressed| packed.push(compressed));
        let answer = self.0.call(Request::from_parts(parts, body));
        Box::pin(async move {
            let (mut parts, body) = answer.await?.into_parts();
            let body = packing::pack(&mut parts.headers, &mut parts.extensions, body);
            parts.headers.extend(initial);
            Ok(Response::from_parts(parts, with_trailer(body, trailing)))
        })
    }
}

/// Metadata of this name comes back at the beginning of the response.
const ECHO_INITIAL: HeaderName = HeaderName::from_static("x-grpc-test-echo-initial");
/// Metadata of this name comes back at the end of the response.
const ECHO_TRAILING: HeaderName = HeaderName::from_static("x-grpc-test-echo-trailing-bin");

fn with_trailer(body: Body, trailer: Option<(HeaderName, HeaderValue)>) -> Body {
    Body::new(body.map_frame(
        move |frame: hyper::body::Frame<Bytes>| match frame.into_trailers() {
            Ok(mut trailers) => {
                trailers.extend(trailer.clone());
                hyper::body::Frame::trailers(trailers)
            }
            Err(frame) => frame,
        },
    ))
}
