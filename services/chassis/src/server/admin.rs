//! The admin listener: plain HTTP for people and platforms, and gRPC health for probes.
//!
//! It never uses TLS, so the kubelet's gRPC probe, VPC Lattice and `healthcheck` can reach it whatever the
//! gRPC listener requires. Keep it inside the network.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{Either, Full};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    select,
    time::{Instant, sleep, timeout_at},
};
use tonic::Code;

use crate::{
    call::{
        Shared,
        in_flight::InFlight,
        peer::Peer,
        respond,
        response_body::{CallBody, ResponseBody},
    },
    connection::{
        self, first_bytes, http2,
        stall_guard::StallGuard,
        tcp::{TcpStream, set_options},
    },
    settings::VERSION,
    state::{
        lifecycle::Phase,
        reloaded_files::{self, ReloadedFiles},
    },
    wire::incoming::Incoming,
};

/// The data that the pages show.
struct Pages {
    name: &'static str,
    shared: Arc<Shared>,
    files: ReloadedFiles,
}

/// Serves one connection, HTTP/1.1 or HTTP/2, until the peer closes it or the process shuts down.
///
/// Its `shared` has only the health service; all else is as on the gRPC listener.
pub(crate) async fn serve(
    name: &'static str,
    shared: Arc<Shared>,
    files: ReloadedFiles,
    stream: TcpStream,
    addr: SocketAddr,
) {
    let closed = shared.lifecycle.reached(Phase::Closed);
    let pages = Arc::new(Pages {
        name,
        shared,
        files,
    });
    future::select(pin!(closed), pin!(converse(pages, stream, addr))).await;
}

async fn converse(pages: Arc<Pages>, mut stream: TcpStream, addr: SocketAddr) {
    let shared = &pages.shared;
    let deadline = Instant::now() + *shared.limits.handshake_timeout;
    let mut first = [0];
    let first = first_bytes(&mut stream, &mut first, deadline, &shared.lifecycle);
    if first.await.is_none() {
        return;
    }
    if let Err(error) = set_options(&stream) {
        tracing::debug!(peer = %addr, %error, "socket options");
    }
    let Ok(Ok((is_http2, stream))) = timeout_at(deadline, protocol(stream)).await else {
        return;
    };
    if is_http2 {
        let peer = Arc::new(Peer::new(
            addr,
            Vec::new(),
            &shared.lifecycle,
            &shared.calls,
        ));
        let served = http2::serve(shared, &peer, stream, {
            let (pages, peer) = (pages.clone(), peer.clone());
            move |request| page_or_call(pages, peer, request)
        });
        if let Err(why) = served.await {
            connection::failed(shared, &peer, &why, None);
        }
    } else {
        let too_old = sleep(*shared.limits.max_connection_age);
        select! {
            () = http1(&pages, stream) => {}
            () = too_old => {}
        }
    }
}

/// Whether the peer speaks HTTP/2, and the stream with the bytes that were read to find out.
async fn protocol(
    mut stream: TcpStream,
) -> io::Result<(bool, impl AsyncRead + AsyncWrite + Send + Unpin)> {
    // RFC 9113, 3.4. No method of HTTP/1.1 is PRI.
    const PREFACE: &[u8] = b"PRI ";
    let mut begin = Vec::with_capacity(PREFACE.len());
    while begin.len() < PREFACE.len() && PREFACE.starts_with(&begin) {
        let left = PREFACE.len() - begin.len();
        if (&mut stream).take(left as u64).read_buf(&mut begin).await? == 0 {
            break;
        }
    }
    let is_http2 = begin == PREFACE;
    let (read, write) = stream.into_split();
    let read = io::Cursor::new(begin).chain(read);
    Ok((is_http2, tokio::io::join(read, write)))
}

async fn http1(pages: &Arc<Pages>, stream: impl AsyncRead + AsyncWrite + Send + Unpin) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let page = match *request.method() {
            Method::GET | Method::HEAD => pages.page(request.uri().path()),
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n".to_owned()),
        };
        async { Ok::<_, Infallible>(page) }
    });
    let stream = StallGuard::without_frames(stream, &pages.shared.limits);
    // An error is ignored: there is no one to report it to.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn page_or_call(
    pages: Arc<Pages>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Response<Either<CallBody, Full<Bytes>>> {
    match *request.method() {
        Method::POST => respond(pages.shared.clone(), peer, request)
            .await
            .map(Either::Left),
        _ => pages.page(request.uri().path()).map(Either::Right),
    }
}

impl ResponseBody for Either<CallBody, Full<Bytes>> {
    fn in_flight(&self) -> Option<Arc<InFlight>> {
        match self {
            Self::Left(call) => call.in_flight(),
            Self::Right(_) => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Left(call) => call.deadline(),
            Self::Right(_) => None,
        }
    }

    fn abort(&mut self, code: Code) {
        if let Self::Left(call) = self {
            call.abort(code);
        }
    }
}

impl Pages {
    fn page(&self, path: &str) -> Response<Full<Bytes>> {
        let shared = &self.shared;
        let (status, page) = match path {
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => readiness(shared, &self.files),
            "/metrics" => return page(StatusCode::OK, shared.metrics.text(), OPEN_METRICS),
            "/version" => (StatusCode::OK, format!("{} {}\n", self.name, VERSION)),
            _ => (
                StatusCode::NOT_FOUND,
                "/healthz /readyz /metrics /version\n".to_owned(),
            ),
        };
        text(status, page)
    }
}

/// Prometheus 3 refuses a page of metrics that does not say what it is.
/// <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md#overall-structure>
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    page(status, text, plain)
}

fn page(status: StatusCode, text: String, content_type: HeaderValue) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::from(text));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, content_type);
    page
}

/// Whether the server is ready for calls, and details for people.
fn readiness(shared: &Shared, files: &ReloadedFiles) -> (StatusCode, String) {
    let (phase, dependencies) = (shared.lifecycle.phase(), &shared.dependencies);
    let status = match (phase, dependencies.missing()) {
        (Phase::Serving, None) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = format!(
        "{phase}\n{}{}",
        dependencies.lines(),
        reloaded_files::problems(files)
    );
    (status, text)
}
