//! The admin listener: plain HTTP for people and platforms, and gRPC health for probes.
//!
//! It never asks for TLS, so the kubelet's gRPC probe, VPC Lattice and `healthcheck` reach it whatever
//! the gRPC listener demands. Keep it inside the network.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::select;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::TcpStream;

use crate::{
    connection::{Shared, answer},
    lifecycle::Phase,
};

/// Serves one connection, HTTP/1.1 or HTTP/2, until the peer is done with it, or the process is.
///
/// Its `shared` knows only health; the rest is as on the gRPC listener.
pub(crate) async fn serve(
    name: &'static str,
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let closed = shared.lifecycle.reached(Phase::Closed);
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move {
            Ok::<_, Infallible>(if request.method() == Method::POST {
                answer(&shared, request, peer).await.map(Either::Right)
            } else {
                page(name, shared.lifecycle.phase(), request.uri().path()).map(Either::Left)
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
    select(pin!(connection), pin!(closed)).await;
}

fn page(name: &str, phase: Phase, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok".to_owned()),
        "/readyz" if phase == Phase::Serving => (StatusCode::OK, phase.to_string()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, phase.to_string()),
        "/version" => (StatusCode::OK, format!("{name} {}", crate::VERSION)),
        _ => (
            StatusCode::NOT_FOUND,
            "/healthz /readyz /version".to_owned(),
        ),
    };
    let mut page = Response::new(Full::from(format!("{text}\n")));
    *page.status_mut() = status;
    page
}
