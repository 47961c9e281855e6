//! HTTP/2 without gRPC.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::within;

/// What a client says first: the preface of HTTP/2 and settings without a change.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An answer as it came over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, gRPC framing included.
    pub body: Bytes,
    /// The trailers; empty if there are none.
    pub trailers: HeaderMap,
}

/// Sends one HTTP/2 request on a connection of its own, with nothing that a gRPC client adds.
pub async fn raw(addr: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    within(async {
        let stream = TcpStream::connect(addr)
            .await
            .expect("a server that listens");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer");
        let trailers = body.trailers().cloned().unwrap_or_default();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        }
    })
    .await
}
