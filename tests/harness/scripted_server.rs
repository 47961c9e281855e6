//! Servers that do to a client what the suite's own never would.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    PREFACE,
    frames::{code, goaway, kind, settings},
};

/// What to do with a request.
#[derive(Debug, Clone, Copy)]
pub enum Behavior {
    /// Reset its stream.
    Reset(Reason),
    /// Read it, and answer with headers and no more: an HTTP status and some fields.
    Answer(u16, &'static [(&'static str, &'static str)]),
    /// Answer with a page, as a proxy does that knows only HTTP.
    Page(u16),
    /// Begin an answer, and wait for the client to reset it.
    Begin,
    /// Begin an answer of messages without an end, as fast as they are taken.
    Flood,
    /// Close the connection.
    HangUp,
}

/// An answer in gRPC: UNAVAILABLE.
pub const UNAVAILABLE: Behavior = Behavior::Answer(200, &[GRPC, ("grpc-status", "14")]);
/// The content type that makes it gRPC.
pub const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, gRPC framing included; empty if it was not read.
    pub body: Vec<u8>,
    /// Whether the client has reset it after its answer began.
    pub reset: bool,
}

/// An HTTP/2 server that does with each request what it is told.
#[derive(Debug)]
pub struct ScriptedServer {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedServer {
    /// Starts one that asks `what` to do with each request, counted from 0.
    pub async fn start(what: impl Fn(usize) -> Behavior + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let scripted_server = Self {
            addr: listener.local_addr().expect("bound"),
            seen: Arc::default(),
        };
        let seen = scripted_server.seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, what.clone(), seen.clone()));
            }
        });
        scripted_server
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn converse(
    stream: TcpStream,
    what: impl Fn(usize) -> Behavior,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    while let Some(Ok((request, answer))) = connection.accept().await {
        let nth = {
            let mut seen = seen.lock().expect("no panic");
            seen.push(Seen {
                path: request.uri().path().to_owned(),
                headers: request.headers().clone(),
                body: Vec::new(),
                reset: false,
            });
            seen.len() - 1
        };
        match what(nth) {
            Behavior::HangUp => return,
            behavior => tokio::spawn(act(behavior, request, answer, nth, seen.clone())),
        };
    }
}

async fn act(
    behavior: Behavior,
    request: Request<h2::RecvStream>,
    mut answer: SendResponse<Bytes>,
    nth: usize,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    match behavior {
        Behavior::Reset(reason) => answer.send_reset(reason),
        Behavior::Page(status) => {
            let head = Response::builder().status(status).body(());
            let body = answer.send_response(head.expect("a head"), false);
            let page = body.expect("sent").send_data("<html></html>".into(), true);
            page.expect("sent");
        }
        Behavior::Begin => {
            let head = Response::builder().header(GRPC.0, GRPC.1).body(());
            let open = answer.send_response(head.expect("a head"), false);
            let mut open = open.expect("sent");
            let _ = poll_fn(|cx| open.poll_reset(cx)).await;
            seen.lock().expect("no panic")[nth].reset = true;
        }
        Behavior::Answer(status, fields) => {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                seen.lock().expect("no panic")[nth].body.extend(data);
            }
            let head = fields
                .iter()
                .fold(Response::builder().status(status), |head, (name, value)| {
                    head.header(*name, *value)
                });
            let head = head.body(()).expect("a head");
            answer.send_response(head, true).expect("sent");
        }
        Behavior::Flood => {
            let head = Response::builder().header(GRPC.0, GRPC.1).body(());
            let body = answer.send_response(head.expect("a head"), false);
            flood(body.expect("sent")).await;
        }
        Behavior::HangUp => {}
    }
}

async fn flood(mut body: h2::SendStream<Bytes>) {
    // A thousand messages without a byte in them.
    const MESSAGES: &[u8] = &[0; 5000];
    loop {
        body.reserve_capacity(MESSAGES.len());
        while body.capacity() < MESSAGES.len() {
            match poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                _ => return,
            }
        }
        if body.send_data(MESSAGES.into(), false).is_err() {
            return;
        }
    }
}

/// A server that answers the first request of each connection with a GOAWAY that says it has not begun
/// with it, and keeps the connection open.
pub async fn leaving() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(leave(stream));
        }
    });
    addr
}

async fn leave(mut stream: TcpStream) -> std::io::Result<()> {
    const PREFACE_LENGTH: usize = PREFACE.len() - 9; // without its SETTINGS
    stream.read_exact(&mut [0; PREFACE_LENGTH]).await?;
    stream.write_all(&settings(&[])).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await?;
        if header[3] == kind::HEADERS {
            stream.write_all(&goaway(0, code::NO_ERROR, b"")).await?;
        }
    }
}
