//! The admin listener: plain HTTP for people and platforms, and gRPC health for probes.
//!
//! It never asks for TLS, so the kubelet's gRPC probe, VPC Lattice and `healthcheck` reach it whatever
//! the gRPC listener demands. Keep it inside the network.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpStream,
    select,
    time::{Instant, sleep},
};

use crate::{
    call::{Shared, answer},
    connection::{Peer, speaks},
    followed::{self, AllFollowed},
    lifecycle::Phase,
};

/// Serves one connection, HTTP/1.1 or HTTP/2, until the peer is done with it, or the process is.
///
/// Its `shared` knows only health; the rest is as on the gRPC listener.
pub(crate) async fn serve(
    name: &'static str,
    shared: Arc<Shared>,
    files: AllFollowed,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let closed = shared.lifecycle.reached(Phase::Closed);
    let too_old = sleep(*shared.limits.max_connection_age);
    let deadline = Instant::now() + *shared.limits.handshake_timeout;
    if !speaks(&stream, deadline, &shared.lifecycle).await {
        return;
    }
    let peer = Arc::new(Peer::new(peer, Vec::new(), shared.lifecycle.closing()));
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, files, peer) = (shared.clone(), files.clone(), peer.clone());
        async move {
            Ok::<_, Infallible>(if request.method() == Method::POST {
                answer(&shared, &peer, request).await.map(Either::Right)
            } else {
                page(name, &shared, &files, request.uri().path()).map(Either::Left)
            })
        }
    });
    let mut settings = auto::Builder::new(TokioExecutor::new());
    settings
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5));
    settings
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(20);
    let connection = settings.serve_connection(TokioIo::new(stream), service);
    select! {
        _ = connection => {}
        () = closed => {}
        () = too_old => {}
    }
}

fn page(name: &str, shared: &Shared, files: &AllFollowed, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => readiness(shared, files),
        "/metrics" => (StatusCode::OK, shared.metrics.text()),
        "/version" => (StatusCode::OK, format!("{name} {}\n", crate::VERSION)),
        _ => (
            StatusCode::NOT_FOUND,
            "/healthz /readyz /metrics /version\n".to_owned(),
        ),
    };
    let mut page = Response::new(Full::from(text));
    *page.status_mut() = status;
    page
}

/// Whether calls should come here, and what else a person should know.
fn readiness(shared: &Shared, files: &AllFollowed) -> (StatusCode, String) {
    let (phase, dependencies) = (shared.lifecycle.phase(), &shared.dependencies);
    let status = match (phase, dependencies.missing()) {
        (Phase::Serving, None) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = format!(
        "{phase}\n{}{}",
        dependencies.lines(),
        followed::problems(files)
    );
    (status, text)
}
