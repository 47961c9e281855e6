//! A Lambda function as a process of its own, and the Runtime API that it asks for events.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::{
    convert::Infallible,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{
    process::{command, lines, next_line, send_signal},
    within,
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout},
    sync::{Mutex, mpsc, oneshot},
};
use tokio_util::task::AbortOnDropHandle;

/// A function that waits for events.
#[derive(Debug)]
pub struct Function {
    events: mpsc::Sender<Invocation>,
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    _api: AbortOnDropHandle<()>,
}

/// What the function returns, or the error that it reports.
pub type Outcome = Result<Value, Value>;

#[derive(Debug)]
struct Invocation {
    event: String,
    deadline: SystemTime,
    outcome: oneshot::Sender<Outcome>,
}

impl Function {
    /// Starts a function with this environment, and Lambda's. Its log stream is called `sandbox`.
    pub async fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let (events, waiting) = mpsc::channel(1);
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound").to_string();
        let mut child = command(name, &[])
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", addr.as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", name),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "sandbox"),
            ])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            // Where the runtime's panics would stand among what has really failed.
            .stderr(Stdio::null())
            .spawn()
            .expect("a function that starts");
        Self {
            events,
            log: lines(&mut child),
            child,
            _api: AbortOnDropHandle::new(tokio::spawn(serve(listener, waiting))),
        }
    }

    /// Invokes it, with plenty of time.
    pub async fn invoke(&self, event: &Value) -> Outcome {
        self.invoke_for(Duration::from_secs(30), event).await
    }

    /// Invokes it, and tells it that so much time is left.
    pub async fn invoke_for(&self, left: Duration, event: &Value) -> Outcome {
        let (outcome, came) = oneshot::channel();
        let invocation = Invocation {
            event: event.to_string(),
            deadline: SystemTime::now() + left,
            outcome,
        };
        within(async {
            self.events.send(invocation).await.expect("a Runtime API");
            came.await.expect("an outcome")
        })
        .await
    }

    /// Stops it in its tracks, as Lambda does between two invocations.
    pub fn freeze(&self) {
        send_signal(&self.child, Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        send_signal(&self.child, Signal::CONT);
    }

    /// The next log line with this message.
    pub async fn log(&mut self, message: &str) -> Value {
        next_line(&mut self.log, message).await
    }
}

/// A request as API Gateway puts it into an event: payload 2.0 of an HTTP API.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
pub fn of_api_gateway(method: &str, path: &str, content_type: &str, body: &[u8]) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-length": body.len().to_string(),
            "content-type": content_type,
            "host": "abcdefghij.execute-api.eu-west-1.amazonaws.com",
            "x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "x-grpc-web": "1",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdefghij",
            "domainName": "abcdefghij.execute-api.eu-west-1.amazonaws.com",
            "domainPrefix": "abcdefghij",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "agent",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "10/Mar/2020:05:16:23 +0000",
            "timeEpoch": 1_583_817_383_220_u64,
        },
        "body": STANDARD.encode(body),
        "isBase64Encoded": true,
    })
}

/// What is to be done next, and who waits for the outcome of what is being done.
#[derive(Debug)]
struct Api {
    waiting: Mutex<mpsc::Receiver<Invocation>>,
    outcome: Mutex<Option<oneshot::Sender<Outcome>>>,
}

async fn serve(listener: TcpListener, waiting: mpsc::Receiver<Invocation>) {
    let api = Arc::new(Api {
        waiting: Mutex::new(waiting),
        outcome: Mutex::new(None),
    });
    while let Ok((stream, _)) = listener.accept().await {
        let api = api.clone();
        let answer = service_fn(move |request| api.clone().answer(request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(connection);
    }
}

impl Api {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a whole request").to_bytes();
        let (_, last) = head.uri.path().rsplit_once('/').expect("a path");
        if last == "next" {
            return Ok(self.next().await);
        }
        let said = serde_json::from_slice(&body).expect("JSON");
        let outcome = match last {
            "response" => Ok(said),
            "error" => Err(said),
            _ => panic!("{}", head.uri),
        };
        if let Some(waits) = self.outcome.lock().await.take() {
            let _ = waits.send(outcome);
        }
        Ok(Response::new(Full::default()))
    }

    async fn next(&self) -> Response<Full<bytes::Bytes>> {
        let Some(invocation) = self.waiting.lock().await.recv().await else {
            return std::future::pending().await;
        };
        *self.outcome.lock().await = Some(invocation.outcome);
        let deadline = invocation.deadline.duration_since(SystemTime::UNIX_EPOCH);
        let deadline = deadline.expect("after 1970").as_millis();
        Response::builder()
            .header("lambda-runtime-aws-request-id", "1")
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-west-1:123456789012:function:f",
            )
            .body(Full::from(invocation.event))
            .expect("a response")
    }
}
