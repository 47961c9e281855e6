//! What the author of a service can do without touching the chassis.

use std::{pin::Pin, time::Duration};

use chassis::{
    App, CallContext, Error, RequestBody, Runtime, Services, TraceId,
    prometheus_client::metrics::counter::Counter,
};
use echo::pb::{
    EchoRequest, EchoResponse,
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};
use harness::{Running, get, start, start_in, within};
use http::{HeaderValue, StatusCode};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::util::{MapRequestLayer, MapResponseLayer};
use tracing::Level;

use harness::{log::Log, pki::Pki};

/// A Greeter that says what it knows of a call, or passes the call on.
struct Desk {
    greetings: Counter,
    upstream: Option<EchoClient<channel::Channel>>,
}

#[derive(Debug, Clone, clap::Args)]
struct Settings {
    /// Where to pass calls on to
    #[arg(long)]
    upstream: Option<String>,
    /// Whether to run background work that panics
    #[arg(long)]
    failing_task: bool,
    /// Whether to run background work that ends with the process
    #[arg(long)]
    task_until_shutdown: bool,
}

/// Background work has ended because the process drains.
static SHUT_DOWN: Notify = Notify::const_new();

const APP: App<Settings> = App {
    name: "front-desk",
    about: "Says what it knows of a call",
    listen_port: 0,
    build: |settings, runtime| Box::pin(build(settings, runtime)),
};

/// The same behind an interceptor and two layers.
const GUARDED: App<Settings> = App {
    build: |settings, runtime| Box::pin(build_guarded(settings, runtime)),
    ..APP
};

async fn build(settings: Settings, runtime: Runtime) -> Result<Services, Error> {
    let desk = Desk::new(&settings, &runtime)?;
    if settings.failing_task {
        runtime.spawn("refresh", async { panic!("a secret") });
    }
    if settings.task_until_shutdown {
        let shutdown = runtime.shutdown();
        runtime.spawn("refresh", async {
            shutdown.await;
            SHUT_DOWN.notify_one();
        });
    }
    Ok(Services::described_by(echo::pb::FILE_DESCRIPTOR_SET).add_service(EchoServer::new(desk)))
}

async fn build_guarded(settings: Settings, runtime: Runtime) -> Result<Services, Error> {
    let desk = Desk::new(&settings, &runtime)?;
    let sees_the_call = |request: http::Request<RequestBody>| {
        assert!(request.extensions().get::<CallContext>().is_some());
        request
    };
    let marks = |mut response: http::Response<tonic::body::Body>| {
        let headers = response.headers_mut();
        headers.insert("x-layer", HeaderValue::from_static("seen"));
        response
    };
    Ok(Services::described_by(echo::pb::FILE_DESCRIPTOR_SET)
        .layer(MapRequestLayer::new(sees_the_call))
        .add_service(EchoServer::with_interceptor(desk, needs_a_key))
        .layer(MapResponseLayer::new(marks)))
}

fn needs_a_key(request: Request<()>) -> Result<Request<()>, Status> {
    let call = request.extensions().get::<CallContext>();
    let call = call.ok_or_else(|| Status::internal("no context"))?;
    match request.metadata().contains_key("x-key") {
        true => Ok(request),
        false => Err(Status::permission_denied(call.method().to_owned())),
    }
}

impl Desk {
    fn new(settings: &Settings, runtime: &Runtime) -> Result<Self, Error> {
        let upstream = settings.upstream.as_deref().map(|url| {
            let target = channel::Target::parse(url, false)?;
            channel::Channel::new(target, channel::Settings::default())
        });
        Ok(Self {
            greetings: (runtime.metrics()).counter("greetings", "Greetings sent"),
            upstream: upstream.transpose()?.map(EchoClient::new),
        })
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Desk {
    type ServerStreamingEchoStream = Replies;
    type BidirectionalStreamingEchoStream = Replies;

    async fn unary_echo(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<EchoResponse>, Status> {
        let call = request.extensions().get::<CallContext>().cloned();
        let call = call.ok_or_else(|| Status::internal("no context"))?;
        self.greetings.inc();
        tracing::info!("greeting");
        if let Some(upstream) = &self.upstream {
            return upstream
                .clone()
                .unary_echo(call.propagate(request.into_inner()))
                .await;
        }
        let left = call
            .deadline()
            .map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()));
        let names: Vec<_> = call
            .certificate_names()
            .iter()
            .map(ToString::to_string)
            .collect();
        let message = format!(
            "{}|{}|{:?}|{}",
            call.peer_addr().ip(),
            names.join(","),
            left.map(|left| left.as_millis()),
            call.trace_id().as_ref().map_or("", TraceId::as_str),
        );
        Ok(Response::new(EchoResponse { message }))
    }

    async fn server_streaming_echo(
        &self,
        _: Request<EchoRequest>,
    ) -> Result<Response<Replies>, Status> {
        tracing::info!("before the stream");
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            tracing::info!("in the stream");
            yield EchoResponse::default();
        })))
    }

    async fn client_streaming_echo(
        &self,
        _: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn bidirectional_streaming_echo(
        &self,
        _: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

const TRACE: &str = "Root=1-67891233-abcdef012345678912345678";
const TRACE_ID: &str = "67891233abcdef012345678912345678";

fn hello() -> Request<EchoRequest> {
    let mut request = Request::new(EchoRequest {
        message: "Ada".into(),
    });
    let metadata = request.metadata_mut();
    metadata.insert("x-amzn-trace-id", TRACE.parse().expect("a header"));
    request
}

/// What the desk knows of a call with this deadline: its peer, names, milliseconds left, and trace.
async fn known(
    greeter: &mut EchoClient<tonic::transport::Channel>,
    timeout: Option<Duration>,
) -> [String; 4] {
    let mut request = hello();
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let reply = within(greeter.unary_echo(request)).await.expect("a reply");
    let message = reply.into_inner().message;
    let parts: Vec<_> = message.split('|').map(str::to_owned).collect();
    parts.try_into().expect("four parts")
}

#[tokio::test]
async fn an_interceptor_decides_before_the_handler() {
    let server = start(GUARDED, &[]).await;
    let mut greeter = EchoClient::new(server.channel());
    let refused = greeter.unary_echo(hello()).await.expect_err("no key");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "/grpc.examples.echo.Echo/UnaryEcho");
    let mut request = hello();
    (request.metadata_mut()).insert("x-key", "any".parse().expect("a header"));
    greeter.unary_echo(request).await.expect("a reply");
}

#[tokio::test]
async fn a_layer_is_around_every_handler_and_not_around_health() {
    let server = start(GUARDED, &[]).await;
    let mut greeter = EchoClient::new(server.channel());
    let refused = greeter.unary_echo(hello()).await.expect_err("no key");
    assert_eq!(refused.metadata().get("x-layer").expect("a mark"), "seen");
    let mut health = HealthClient::new(server.channel());
    let healthy = health.check(HealthCheckRequest::default()).await;
    let healthy = healthy.expect("a status");
    assert!(!healthy.metadata().contains_key("x-layer"));
}

#[tokio::test]
async fn a_service_that_is_intercepted_and_layered_has_the_same_limits_and_compression() {
    use tonic::codec::CompressionEncoding::Gzip;
    let server = start(GUARDED, &[]).await;
    let mut greeter = EchoClient::new(server.channel()).send_compressed(Gzip);
    greeter = greeter.accept_compressed(Gzip);
    let mut request = hello();
    (request.metadata_mut()).insert("x-key", "any".parse().expect("a header"));
    let reply = greeter.unary_echo(request).await.expect("a reply");
    assert_eq!(reply.metadata().get("grpc-encoding").expect("one"), "gzip");

    let mut request = hello();
    request.get_mut().message = "x".repeat(chassis::MAX_REQUEST_BYTES);
    (request.metadata_mut()).insert("x-key", "any".parse().expect("a header"));
    let refused = greeter.unary_echo(request).await.expect_err("too long");
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_counter_of_a_service_is_shown_at_metrics() {
    let server = start(APP, &[]).await;
    let mut greeter = EchoClient::new(server.channel());
    for _ in 0..3 {
        known(&mut greeter, None).await;
    }
    let (_, metrics) = get(server.admin, "/metrics").await;
    assert!(
        metrics.contains("\nfront_desk_greetings_total 3\n"),
        "{metrics}"
    );
    assert_eq!(metrics.matches("# EOF").count(), 1, "{metrics}");
}

#[tokio::test]
async fn what_a_handler_logs_carries_the_method_and_the_trace_of_its_call() {
    let (log, _logging) = Log::keep(Level::INFO);
    let server = start(APP, &[]).await;
    let mut greeter = EchoClient::new(server.channel());
    known(&mut greeter, None).await;
    let mut replies = greeter
        .server_streaming_echo(hello())
        .await
        .expect("a stream")
        .into_inner();
    while replies.message().await.expect("a reply").is_some() {}
    let lines = log.lines();
    for (message, method) in [
        ("greeting", "UnaryEcho"),
        ("before the stream", "ServerStreamingEcho"),
        ("in the stream", "ServerStreamingEcho"),
    ] {
        let line = lines.iter().find(|line| line["message"] == message);
        let span = &line.expect(message)["span"];
        assert_eq!(span["method"], format!("/grpc.examples.echo.Echo/{method}"));
        assert_eq!(span["trace_id"], TRACE_ID);
    }
}

#[tokio::test]
async fn what_a_handler_logs_carries_no_trace_of_another_call() {
    let (log, _logging) = Log::keep(Level::INFO);
    let server = start(APP, &[]).await;
    let mut greeter = EchoClient::new(server.channel());
    let untraced = || Request::new(hello().into_inner());
    for request in [untraced(), hello(), untraced()] {
        greeter.unary_echo(request).await.expect("a reply");
    }
    let lines = log.lines();
    let lines = lines.iter().filter(|line| line["message"] == "greeting");
    let spans: Vec<_> = lines.map(|line| &line["span"]).collect();
    assert!((spans.iter()).all(|span| span["method"] == echo::UNARY));
    let traces: Vec<_> = spans.iter().map(|span| span["trace_id"].as_str()).collect();
    assert_eq!(traces, [None, Some(TRACE_ID), None]);
}

#[tokio::test]
async fn a_handler_knows_an_ipv4_peer_by_its_ipv4_address_on_a_socket_for_both() {
    let server = start(APP, &["--listen", ":0"]).await;
    assert!(server.addr.is_ipv6(), "{}", server.addr);
    for (host, known_as) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let addr = format!("{host}:{}", server.addr.port());
        let channel = harness::channel(addr.parse().expect("an address"));
        let [peer, ..] = known(&mut EchoClient::new(channel), None).await;
        assert_eq!(peer, known_as);
    }
}

#[tokio::test]
async fn a_handler_knows_the_certificate_of_its_peer() {
    let pki = Pki::new();
    pki.issue_to("client", ClientAuth, "spiffe://example/desk");
    let server = start_in(APP, &[], &pki.mtls()).await;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pki.pem("ca.pem")))
        .identity(Identity::from_pem(
            pki.pem("client.pem"),
            pki.pem("client.key"),
        ));
    let endpoint = Endpoint::from_shared(format!("https://{}", server.addr)).expect("a URL");
    let channel = endpoint.tls_config(tls).expect("TLS").connect_lazy();
    let [peer, names, ..] = known(&mut EchoClient::new(channel), None).await;
    assert_eq!(peer, "127.0.0.1");
    assert!(names.contains("URI spiffe://example/desk"), "{names}");
}

async fn relay_to(server: &Running) -> Running {
    start(APP, &["--upstream", &server.url()]).await
}

#[tokio::test]
async fn a_service_calls_another_with_what_is_left_of_its_deadline_and_its_trace() {
    let server = start(APP, &["--unary-timeout", "1h"]).await;
    let relay = relay_to(&server).await;
    let mut greeter = EchoClient::new(relay.channel());
    // The relay's own limit, which the client does not know of.
    let [_, _, left, trace] = known(&mut greeter, None).await;
    assert_eq!(trace, TRACE_ID);
    assert!((5000..10_000).contains(&milliseconds(&left)), "{left}");

    let [_, _, left, _] = known(&mut greeter, Some(Duration::from_secs(3))).await;
    assert!((500..3000).contains(&milliseconds(&left)), "{left}");
}

fn milliseconds(left: &str) -> u64 {
    let digits = left.trim_start_matches("Some(").trim_end_matches(')');
    digits.parse().expect("milliseconds")
}

#[tokio::test]
async fn background_work_that_panics_turns_health_red_and_says_nothing_of_what_it_said() {
    let server = start(APP, &["--failing-task"]).await;
    let mut health = HealthClient::new(server.channel());
    for service in ["", "grpc.examples.echo.Echo"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let changes = health.watch(request).await.expect("a stream");
        let mut changes = changes.into_inner();
        let not_serving = async {
            loop {
                let change = changes.message().await.expect("a status");
                if change.expect("a status").status() == ServingStatus::NotServing {
                    break;
                }
            }
        };
        within(not_serving).await;
    }
    let (status, page) = get(server.admin, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.contains("refresh: its task panicked"), "{page}");
    assert!(!page.contains("secret"), "{page}");
    let (_, metrics) = get(server.admin, "/metrics").await;
    assert!(
        metrics.contains("\ngrpc_server_panics_total 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_response_that_is_passed_on_names_the_replica_that_passed_it_on() {
    let upstream = start_in(APP, &[], &[("POD_IP", "192.0.2.1".to_owned())]).await;
    let url = upstream.url();
    let relay = [("POD_IP", "192.0.2.2".to_owned())];
    let relay = start_in(APP, &["--upstream", &url], &relay).await;
    let mut greeter = EchoClient::new(relay.channel());
    let reply = greeter.unary_echo(hello()).await.expect("a reply");
    let served_by = reply.metadata().get_all("x-served-by");
    assert_eq!(served_by.iter().collect::<Vec<_>>(), ["192.0.2.2"]);
}

#[tokio::test]
async fn background_work_hears_of_the_shutdown() {
    let flags = ["--task-until-shutdown", "--lame-duck", "0s"];
    let mut server = start(APP, &flags).await;
    server.stop();
    within(SHUT_DOWN.notified()).await;
    server.stopped().await;
}
