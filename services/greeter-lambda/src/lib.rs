//! The Greeter as a Lambda function, over gRPC-Web: behind API Gateway (an HTTP API, whose payload is of
//! version 2) or as the target of an ALB.
//!
//! A function receives a request as one JSON event and returns its response as another. Neither has a field
//! for HTTP trailers, where gRPC puts the status of a call; gRPC-Web puts it into the body. So native gRPC
//! is impossible here, behind any load balancer, and is refused with an explanation. For the same reason
//! the replies of a stream arrive together, when the stream has ended.
//!
//! The whole server runs within the function, on the loopback, and receives each event as a native call.
//! Limits, deadlines, log lines and the handling of panics are the server's own.
//!
//! ```sh
//! cargo lambda build --release --arm64 --output-format zip --bin greeter-lambda
//! ```
//!
//! builds `target/lambda/greeter-lambda/bootstrap.zip`, for `provided.al2023`. The settings are the
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

/// Handles events until the process ends.
pub async fn run() -> Result<(), Error> {
    // Only this process calls it, and two functions may share a machine in tests.
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

/// All of Lambda's sandboxes have the same address; the name of the log stream distinguishes them.
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

/// The deadline of a call, early enough to respond before Lambda ends the invocation.
fn time_left(event: &Request) -> Duration {
    const TO_ANSWER: Duration = Duration::from_millis(200);
    // Lambda gives it as a time of day.
    let deadline = event.lambda_context().deadline();
    let left = deadline.duration_since(SystemTime::now());
    left.unwrap_or_default().saturating_sub(TO_ANSWER)
}

/// Calls the server, and waits for the end of its response.
///
/// Each call uses a new connection. The process is frozen between two invocations, so the timers of a kept
/// connection would expire when it resumes.
async fn call(
    server: SocketAddr,
    request: http::Request<Full<Bytes>>,
) -> Result<(Response<Bytes>, HeaderMap), Status> {
    // The event is a third longer, and Lambda accepts 6 MB.
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
