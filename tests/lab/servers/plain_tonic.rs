//! tonic's own server, every setting at its default: what `measure` shows the suite beside.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clap::Parser;
use proto::{
    helloworld::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
    routeguide::{
        Feature, Point, Rectangle, RouteNote, RouteSummary,
        route_guide_server::{RouteGuide, RouteGuideServer},
    },
};
use samples::features;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming, async_trait,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

mod busy;

/// tonic's own server, for comparison
#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve a Greeter with work to do
    #[arg(long)]
    busy: bool,
    /// Seconds; `max_connection_age`
    #[arg(long)]
    age: Option<u64>,
    /// Seconds; `max_connection_age_grace`
    #[arg(long)]
    grace: Option<u64>,
}

#[derive(Default)]
struct Counts {
    open: AtomicU64,
    committed: AtomicU64,
}

/// A RecordRoute call that counts as open until this is dropped.
struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[derive(Clone)]
struct Service {
    features: Arc<Vec<Feature>>,
    counts: Arc<Counts>,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl RouteGuide for Service {
    type ListFeaturesStream = ReceiverStream<Result<Feature, Status>>;
    type RouteChatStream = Replies<RouteNote>;

    async fn get_feature(&self, request: Request<Point>) -> Result<Response<Feature>, Status> {
        let place = Some(request.into_inner());
        let found = self
            .features
            .iter()
            .find(|feature| feature.location == place);
        let nameless = || Feature {
            location: place,
            ..Feature::default()
        };
        Ok(Response::new(found.cloned().unwrap_or_else(nameless)))
    }

    async fn list_features(
        &self,
        request: Request<Rectangle>,
    ) -> Result<Response<Self::ListFeaturesStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let (area, features) = (request.into_inner(), self.features.clone());
        tokio::spawn(async move {
            let inside = |feature: &&Feature| features::is_inside(feature, &area);
            for feature in features.iter().filter(inside) {
                if sender.send(Ok(feature.clone())).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn record_route(
        &self,
        request: Request<Streaming<Point>>,
    ) -> Result<Response<RouteSummary>, Status> {
        self.counts.open.fetch_add(1, Relaxed);
        let _open = Open(self.counts.clone());
        let mut points = request.into_inner();
        let mut summary = RouteSummary::default();
        while let Some(point) = points.next().await {
            point?;
            summary.point_count += 1;
        }
        self.counts.committed.fetch_add(1, Relaxed);
        Ok(Response::new(summary))
    }

    async fn route_chat(
        &self,
        request: Request<Streaming<RouteNote>>,
    ) -> Result<Response<Self::RouteChatStream>, Status> {
        let mut notes = request.into_inner();
        let mut earlier: Vec<RouteNote> = Vec::new();
        let replies = async_stream::try_stream! {
            while let Some(note) = notes.next().await {
                let note = note?;
                for there in earlier.iter().filter(|there| there.location == note.location) {
                    yield there.clone();
                }
                earlier.push(note);
            }
        };
        Ok(Response::new(Box::pin(replies)))
    }
}

#[async_trait]
impl Greeter for Service {
    type SayHelloStreamReplyStream = Replies<HelloReply>;
    type SayHelloBidiStreamStream = Replies<HelloReply>;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(hello(request.into_inner())))
    }

    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        let reply = hello(request.into_inner());
        let replies = tokio_stream::iter(vec![Ok(reply); 5]);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::SayHelloBidiStreamStream>, Status> {
        let replies = request.into_inner().map(|request| request.map(hello));
        Ok(Response::new(Box::pin(replies)))
    }
}

fn hello(request: HelloRequest) -> HelloReply {
    HelloReply {
        message: format!("Hello {}", request.name),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse();
    let counts = Arc::new(Counts::default());
    let service = Service {
        features: Arc::new(features::all()),
        counts: counts.clone(),
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<RouteGuideServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::helloworld::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(proto::routeguide::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut server = Server::builder();
    if let (Some(cert), Some(key)) = (flags.tls_cert, flags.tls_key) {
        let identity = Identity::from_pem(std::fs::read(cert)?, std::fs::read(key)?);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    if let (Some(age), Some(grace)) = (flags.age, flags.grace) {
        server = (server.max_connection_age(Duration::from_secs(age)))
            .max_connection_age_grace(Duration::from_secs(grace));
    }
    // What `serve_with_shutdown` does, but it would not tell the port.
    let incoming = TcpIncoming::bind(flags.listen)?.with_nodelay(Some(true));
    let mut end = signal(SignalKind::terminate())?;
    tokio::spawn(print_counts(counts, signal(SignalKind::user_defined1())?));
    writeln!(io::stdout(), "listening {}", incoming.local_addr()?)?;
    let router = server
        .add_service(health)
        .add_service(reflection)
        .add_service(echo::server())
        .add_service(RouteGuideServer::new(service.clone()));
    let router = match flags.busy {
        true => router.add_service(GreeterServer::new(busy::Busy::new())),
        false => router.add_service(GreeterServer::new(service)),
    };
    let shutdown = async { _ = end.recv().await };
    Ok(router
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await?)
}

/// A line each time it is asked for: how many RecordRoute calls are open, and how many committed.
async fn print_counts(counts: Arc<Counts>, mut asked: tokio::signal::unix::Signal) {
    while asked.recv().await.is_some() {
        let (open, committed) = (counts.open.load(Relaxed), counts.committed.load(Relaxed));
        let _ = writeln!(io::stdout(), "{open} {committed}");
    }
}
