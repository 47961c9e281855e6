//! The least that hyper and h2 can be made to do for a call: read the request unseen, and answer with bytes
//! that were ready before it came.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use harness::framed;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::helloworld::HelloReply;
use samples::features;
use tokio::net::{TcpListener, TcpStream};

/// The limit that other servers are measured by
#[derive(Parser)]
struct Flags {
    with: With,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    features_file: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum With {
    Hyper,
    H2,
}

/// All answers there are.
#[derive(Clone)]
struct Answers {
    hello: Bytes,
    features: Bytes,
}

impl Answers {
    fn to(&self, path: &str) -> Bytes {
        match path {
            "/routeguide.RouteGuide/ListFeatures" => self.features.clone(),
            _ => self.hello.clone(),
        }
    }
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

fn response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, grpc);
    response
}

/// Bytes that are never copied, in pieces of a frame's default size, and then the trailers.
struct Ready(Option<Bytes>);

impl Body for Ready {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const PIECE: usize = 16 * 1024;
        let Some(left) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = match left.len() {
            0 => {
                self.0 = None;
                Frame::trailers(ok())
            }
            length => Frame::data(left.split_to(length.min(PIECE))),
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

async fn with_hyper(stream: TcpStream, answers: Answers) {
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = answers.to(request.uri().path());
        async move {
            // Unread, it would be reset.
            while request.body_mut().frame().await.is_some() {}
            Ok::<_, Infallible>(response(Ready(Some(answer))))
        }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    // However a connection ends, the next is served.
    let _ = connection.await;
}

async fn with_h2(stream: TcpStream, answers: Answers) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let answer = answers.to(request.uri().path());
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            let mut stream = respond.send_response(response(()), false)?;
            stream.send_data(answer, false)?;
            stream.send_trailers(ok())
        });
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let flags = Flags::parse();
    let file = BufReader::new(File::open(flags.features_file)?);
    let mut arena = BytesMut::new();
    for feature in features::read(file) {
        arena.extend_from_slice(&framed(&feature));
    }
    let message = "Hello tonic".into();
    let answers = Answers {
        hello: framed(&HelloReply { message }),
        features: arena.freeze(),
    };
    let listener = TcpListener::bind(flags.listen).await?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        match flags.with {
            With::Hyper => _ = tokio::spawn(with_hyper(stream, answers)),
            With::H2 => _ = tokio::spawn(with_h2(stream, answers)),
        }
    }
}
