//! The Greeter as a Lambda function, over gRPC-Web: behind API Gateway (an HTTP API, whose payload is of
//! version 2) or as the target of an ALB.
//!
//! A function gets a request as one JSON event and gives its response as another. Neither has a place for
//! HTTP trailers, where gRPC puts the status of a call; gRPC-Web puts it into the body. So native gRPC
//! cannot be answered here, whatever stands in front, and is refused with word of that. For the same
//! reason a stream of replies arrives as a whole, when it has ended.
//!
//! The whole server runs within the function, on the loopback, and is given each event as a native call:
//! limits, deadlines, log lines, and what becomes of a panic are the server's own.
//!
//! ```sh
//! cargo lambda build --release --arm64 --output-format zip --bin greeter-lambda
//! ```
//!
//! makes `target/lambda/greeter-lambda/bootstrap.zip`, for `provided.al2023`. The settings are the
//! server's variables.

use std::{
    convert::Infallible,
    env,
    ffi::OsString,
    fmt,
    future::pending,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use chassis::{Error, Invocation, start_logging};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lambda_http::{Request, RequestExt as _, service_fn};
use tokio::{net::TcpStream, time::timeout};
use tonic::Status;

mod web;

use web::Encoding;

/// Answers events for as long as the process lives.
pub async fn run() -> Result<(), Error> {
    // Nobody else is to call it, and two functions may share a test's machine.
    let flags = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    let Invocation::Serve(config, settings) = greeter::APP.parse(flags, setting)? else {
        return Err("not a server".into());
    };
    let _logging = start_logging(&config);
    let server = greeter::APP.bind(&config, settings).await?;
    let addr = server.addr()?;
    tokio::spawn(server.run(pending()));
    lambda_http::run(service_fn(move |event| answer(addr, event))).await
}

/// All of Lambda's sandboxes have the same address; the name of its log tells one from another.
fn setting(variable: &str) -> Option<OsString> {
    let given = env::var_os(variable);
    match variable {
        "POD_IP" => given.or_else(|| env::var_os("AWS_LAMBDA_LOG_STREAM_NAME")),
        _ => given,
    }
}

async fn answer(server: SocketAddr, event: Request) -> Result<Response<Full<Bytes>>, Infallible> {
    let Some(encoding) = Encoding::of(event.headers()) else {
        return Ok(web::refuse());
    };
    let left = time_left(&event);
    let called = async {
        let request = encoding.request(server, event)?;
        timeout(left, call(server, request))
            .await
            .map_err(|_| Status::deadline_exceeded("the time of the invocation is up"))?
    };
    let (response, trailers) =
        (called.await).unwrap_or_else(|status| (status.into_http(), HeaderMap::new()));
    Ok(encoding.response(response, trailers))
}

/// How long a call may take, so that its caller hears from it before Lambda ends the invocation.
fn time_left(event: &Request) -> Duration {
    const TO_ANSWER: Duration = Duration::from_millis(200);
    // Lambda says it as a time of day.
    let deadline = event.lambda_context().deadline();
    let left = deadline.duration_since(SystemTime::now());
    left.unwrap_or_default().saturating_sub(TO_ANSWER)
}

/// Calls the server, and waits for the end of its answer.
///
/// On a connection of its own: one that is kept would have lived through the time between two invocations,
/// in which the process is frozen, and its timers run out as it thaws.
async fn call(
    server: SocketAddr,
    request: http::Request<Full<Bytes>>,
) -> Result<(Response<Bytes>, HeaderMap), Status> {
    // As an event it is a third longer, and Lambda takes 6 MB.
    const LONGEST: usize = 4 * 1024 * 1024;

    let stream = TcpStream::connect(server).await.map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    let (head, body) = (sender.send_request(request).await)
        .map_err(broken)?
        .into_parts();
    let collected = Limited::new(body, LONGEST).collect().await;
    let body = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => Status::resource_exhausted("the answer is longer than Lambda's may be"),
        false => broken(error),
    })?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok((Response::from_parts(head, body.to_bytes()), trailers))
}

fn broken(error: impl fmt::Display) -> Status {
    tracing::error!(%error, "the server on the loopback does not answer");
    Status::internal("the function failed")
}
