//! The Lambda functions, as processes that a Runtime API feeds: the Greeter behind API Gateway and an
//! ALB, and the function that calls it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use harness::{FaultProxy, Process, ScriptedServer, Seen, UNAVAILABLE, command, framed, output};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use proto::helloworld::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use rustix::process::Signal;
use samples::lambda::{Function, Outcome, of_api_gateway};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tonic_web::{GrpcWebCall, GrpcWebClientService};
use tower::{Service, service_fn};

const HELLO: &str = "/helloworld.Greeter/SayHello";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

async fn greeter() -> Function {
    Function::start("greeter-lambda", &[]).await
}

fn name(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
    }
}

/// A request as it stands in an event.
type Event = fn(method: &str, path: &str, content_type: &str, body: &[u8]) -> Value;

/// Every kind of event, with what stands in front.
const EVENTS: [(&str, Event); 3] = [
    ("API Gateway", of_api_gateway),
    ("ALB", of_alb),
    ("ALB with lists of headers", of_alb_with_lists),
];

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html>
fn of_alb(method: &str, path: &str, content_type: &str, body: &[u8]) -> Value {
    json!({
        "requestContext": {
            "elb": {
                "targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/f/0123",
            },
        },
        "httpMethod": method,
        "path": path,
        "queryStringParameters": {},
        "headers": {
            "accept": "*/*",
            "content-length": body.len().to_string(),
            "content-type": content_type,
            "host": "greeter.example.com",
            "x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "body": STANDARD.encode(body),
        "isBase64Encoded": true,
    })
}

/// With `lambda.multi_value_headers.enabled` of the target group.
fn of_alb_with_lists(method: &str, path: &str, content_type: &str, body: &[u8]) -> Value {
    let mut event = of_alb(method, path, content_type, body);
    for (one, several) in [
        ("headers", "multiValueHeaders"),
        ("queryStringParameters", "multiValueQueryStringParameters"),
    ] {
        let values = event.as_object_mut().expect("an object").remove(one);
        let values = values.expect(one);
        let values = values.as_object().expect("an object").iter();
        event[several] = values
            .map(|(name, value)| (name.clone(), json!([value])))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    event
}

/// The HTTP response that API Gateway or the ALB makes of what a function returns.
fn response(event: &Value, outcome: Outcome) -> Response<Bytes> {
    let returned = outcome.expect("a response");
    let mut headers = HeaderMap::new();
    let lists = event["multiValueHeaders"].is_object();
    let given = match lists {
        true => &returned["multiValueHeaders"],
        false => &returned["headers"],
    };
    for (name, value) in given.as_object().expect("headers") {
        let value = if lists { &value[0] } else { value };
        let value = value.as_str().expect("text").parse().expect("a value");
        headers.insert(name.parse::<HeaderName>().expect("a name"), value);
    }
    let body = returned["body"].as_str().expect("a body");
    let body = match returned["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(body).expect("base64").into(),
        _ => Bytes::from(body.to_owned()),
    };
    let mut response = Response::new(body);
    let status = returned["statusCode"].as_u64().expect("a number");
    *response.status_mut() = u16::try_from(status)
        .ok()
        .and_then(|status| status.try_into().ok())
        .expect("a status");
    if let Some(length) = headers.get("content-length") {
        assert_eq!(*length, response.body().len().to_string());
    }
    *response.headers_mut() = headers;
    response
}

/// What a page makes of a response: the messages, and the status behind them.
#[derive(Debug)]
struct Read {
    messages: Vec<String>,
    status: Status,
}

async fn call(function: &Function, event: &Value) -> Read {
    let response = response(event, function.invoke(event).await);
    assert_eq!(response.status(), 200, "{response:?}");
    assert!(!response.headers().contains_key("grpc-status"));
    let body = match response.headers()["content-type"].to_str().expect("text") {
        BINARY => response.into_body(),
        "application/grpc-web-text+proto" => {
            STANDARD.decode(response.body()).expect("base64").into()
        }
        other => panic!("{other}"),
    };
    read(&body)
}

fn read(mut body: &[u8]) -> Read {
    let mut messages = Vec::new();
    loop {
        let (prefix, rest) = body.split_first_chunk::<5>().expect("a frame");
        let [flag, length @ ..] = *prefix;
        let (frame, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        if flag == 0 {
            messages.push(HelloReply::decode(frame).expect("a reply").message);
            body = rest;
            continue;
        }
        assert_eq!((flag, rest), (0x80, &[][..]), "trailers, and the end");
        let lines = std::str::from_utf8(frame).expect("text");
        let lines = lines.strip_suffix("\r\n").expect("whole lines");
        let trailers = lines.split("\r\n").map(|line| {
            let (name, value) = line.split_once(':').expect("a name and a value");
            let name = name.parse::<HeaderName>().expect("a name");
            (name, value.trim().parse().expect("a value"))
        });
        let status = Status::from_header_map(&trailers.collect());
        return Read {
            messages,
            status: status.expect("a status"),
        };
    }
}

/// A generated client over tonic's gRPC-Web, through events of this kind.
fn client(
    function: Arc<Function>,
    event: Event,
) -> GreeterClient<
    impl Service<
        Request<Body>,
        Response = Response<GrpcWebCall<Full<Bytes>>>,
        Error = Infallible,
        Future: Send,
    >,
> {
    let call = move |request: Request<GrpcWebCall<Body>>| {
        let function = function.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a whole request").to_bytes();
            let content_type = head.headers["content-type"].to_str().expect("text");
            let event = event("POST", head.uri.path(), content_type, &body);
            let response = response(&event, function.invoke(&event).await);
            Ok::<_, Infallible>(response.map(Full::new))
        }
    };
    GreeterClient::new(GrpcWebClientService::new(service_fn(call)))
}

#[tokio::test]
async fn a_client_of_grpc_web_is_answered_through_every_kind_of_event() {
    let function = Arc::new(greeter().await);
    for (front, event) in EVENTS {
        let mut client = client(function.clone(), event);
        let reply = client.say_hello(name("Ada")).await.expect(front);
        assert_eq!(reply.metadata().get("x-served-by").expect(front), "sandbox");
        assert_eq!(reply.into_inner().message, "Hello Ada", "{front}");

        let mut replies = (client.say_hello_stream_reply(name("Ada")).await)
            .expect(front)
            .into_inner();
        for number in 1..=5 {
            let reply = replies.message().await.expect(front).expect(front);
            assert_eq!(reply.message, format!("Hello Ada ({number} of 5)"));
        }
        assert_eq!(replies.message().await.expect(front), None);

        let refused = client.say_hello(name("")).await.expect_err(front);
        assert_eq!(refused.code(), Code::InvalidArgument, "{front}");
        let details = refused.get_details_bad_request().expect("details");
        assert_eq!(details.field_violations[0].field, "name", "{front}");
    }
}

#[tokio::test]
async fn binary_is_answered_in_binary_and_text_in_text() {
    let function = greeter().await;
    let hello = framed(&name("Ada"));
    let as_text = STANDARD.encode(&hello);
    // A client may send pieces as they come, each with its padding.
    let in_pieces = STANDARD.encode(&hello[..4]) + &STANDARD.encode(&hello[4..]);
    for (content_type, body, answered) in [
        (BINARY, &hello[..], BINARY),
        ("application/grpc-web", &hello, BINARY),
        (TEXT, as_text.as_bytes(), TEXT),
        (TEXT, in_pieces.as_bytes(), TEXT),
        (
            "Application/gRPC-Web-Text+proto; charset=utf-8",
            as_text.as_bytes(),
            TEXT,
        ),
    ] {
        for (front, event) in EVENTS {
            let event = event("POST", HELLO, content_type, body);
            let response = response(&event, function.invoke(&event).await);
            let kind = response.headers()["content-type"].to_str().expect("text");
            assert_eq!(
                kind.trim_end_matches("+proto"),
                answered.trim_end_matches("+proto")
            );
            let read = call(&function, &event).await;
            assert_eq!(read.messages, ["Hello Ada"], "{front}, {content_type}");
            assert_eq!(read.status.code(), Code::Ok, "{front}, {content_type}");
        }
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_refused_in_the_same_words() {
    let function = greeter().await;
    let hello = framed(&name("Ada"));
    let longest = framed(&name(&"x".repeat(64 * 1024 - 4)));
    let longer = framed(&name(&"x".repeat(64 * 1024)));
    for (path, body, code, why) in [
        (
            "/helloworld.Greeter/No",
            &hello[..],
            Code::Unimplemented,
            "no method at /helloworld.Greeter/No",
        ),
        (
            "/no.Such/Service",
            &hello,
            Code::Unimplemented,
            "no service at /no.Such/Service",
        ),
        (
            "/prod/helloworld.Greeter/SayHello",
            &hello,
            Code::Unimplemented,
            "no service at /prod/",
        ),
        (
            HELLO,
            &longest,
            Code::InvalidArgument,
            "name: 65532 bytes, and at most 1024",
        ),
        (
            HELLO,
            &longer,
            Code::ResourceExhausted,
            "a message of 65540 bytes, and at most 65536",
        ),
        (
            HELLO,
            &[hello.clone(), hello.clone()].concat(),
            Code::Unimplemented,
            "this method takes one",
        ),
        (
            HELLO,
            b"",
            Code::Unimplemented,
            "this method takes one request message: none came",
        ),
        (HELLO, &hello[..7], Code::Internal, "Unexpected EOF"),
    ] {
        let status = call(&function, &of_api_gateway("POST", path, BINARY, body))
            .await
            .status;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().starts_with(why), "{status:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_base64_or_missing_is_refused() {
    let function = greeter().await;
    for broken in ["AAAA%", "AAAAA", "AA=AAAAA"] {
        let event = of_alb("POST", HELLO, TEXT, broken.as_bytes());
        let status = call(&function, &event).await.status;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(
            status.message().starts_with("the body is not base64"),
            "{status:?}"
        );
    }
    let no_body = of_api_gateway("POST", HELLO, BINARY, b"");
    let mut no_body = no_body.as_object().expect("an object").clone();
    no_body.remove("body");
    let status = call(&function, &no_body.into()).await.status;
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
}

#[tokio::test]
async fn native_grpc_is_refused_with_the_reason_in_the_head_and_in_the_body() {
    let function = greeter().await;
    let hello = framed(&name("Ada"));
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/json",
        "",
    ] {
        for (front, event) in EVENTS {
            let event = event("POST", HELLO, content_type, &hello);
            let response = response(&event, function.invoke(&event).await);
            assert_eq!(response.status(), 415, "{front}, {content_type}");
            assert_eq!(
                response.headers()["content-type"],
                "text/plain; charset=utf-8"
            );
            let status = Status::from_header_map(response.headers()).expect("a status");
            assert_eq!(
                status.code(),
                Code::Unimplemented,
                "{front}, {content_type}"
            );
            let text = std::str::from_utf8(response.body()).expect("text");
            assert_eq!(status.message(), text);
            for word in ["trailers", "native gRPC", BINARY] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
    let get = of_alb("GET", HELLO, BINARY, &hello);
    let response = response(&get, function.invoke(&get).await);
    assert_eq!(response.status(), 405, "the server's own refusal");
    assert_eq!(response.headers()["allow"], "POST");
}

#[tokio::test]
async fn the_path_is_the_one_that_the_client_wrote_whatever_the_stage() {
    let function = greeter().await;
    let mut event = of_api_gateway("POST", HELLO, BINARY, &framed(&name("Ada")));
    event["requestContext"]["stage"] = "prod".into();
    assert_eq!(call(&function, &event).await.messages, ["Hello Ada"]);
}

#[tokio::test]
async fn a_call_is_answered_before_the_invocation_ends() {
    let function = greeter().await;
    let event = of_api_gateway("POST", HELLO, BINARY, &framed(&name("Ada")));
    let outcome = function
        .invoke_for(Duration::from_millis(100), &event)
        .await;
    let status = read(response(&event, outcome).body()).status;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(call(&function, &event).await.messages, ["Hello Ada"]);
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_lambda_is_refused_and_a_panic_costs_one_call() {
    let function = greeter().await;
    let chat = "/helloworld.Greeter/SayHelloBidiStream";
    let most = framed(&name(&"x".repeat(1024))).repeat(4050);
    let status = call(&function, &of_api_gateway("POST", chat, BINARY, &most))
        .await
        .status;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let fewer = call(
        &function,
        &of_api_gateway("POST", chat, BINARY, &most[..1032 * 4000]),
    )
    .await;
    assert_eq!(
        (fewer.messages.len(), fewer.status.code()),
        (4000, Code::Ok)
    );

    // lambda_http panics here, as no server of AWS ever does this to it.
    let hello = framed(&name("Ada"));
    let mut event = of_api_gateway("POST", HELLO, BINARY, &hello);
    event["body"] = "%".into();
    let error = function.invoke(&event).await.expect_err("an error");
    let text = error["errorMessage"].as_str().expect("text");
    assert!(text.starts_with("Lambda panicked"), "{error}");
    let event = of_api_gateway("POST", HELLO, BINARY, &hello);
    assert_eq!(call(&function, &event).await.messages, ["Hello Ada"]);
}

#[tokio::test]
async fn a_call_has_the_log_line_of_the_server() {
    let mut function = greeter().await;
    let event = of_alb("POST", HELLO, BINARY, &framed(&name("")));
    call(&function, &event).await;
    let line = function.log("call").await;
    assert_eq!(line["method"], HELLO);
    assert_eq!(line["code"], "INVALID_ARGUMENT");
    assert_eq!(line["forwarded_for"], "203.0.113.7");
    assert_eq!(line["trace_id"], "67891233abcdef012345678912345678");
}

/// The function that calls the Greeter at this address.
async fn caller(url: &str) -> Function {
    Function::start("greeter-caller", &[("GREETER_URL", url)]).await
}

fn ada() -> Value {
    json!({"name": "Ada"})
}

#[tokio::test]
async fn the_caller_returns_and_logs_what_it_hears_over_one_channel() {
    let mut server = Process::start("greeter", &["--pod-ip", "10.0.1.7"]).await;
    let port = server.addr.port();
    for url in [
        format!("http://{}", server.addr),
        format!("dns:///localhost:{port}"),
    ] {
        let mut function = caller(&url).await;
        let mut peers = Vec::new();
        for _ in 0..3 {
            let greeting = function.invoke(&ada()).await.expect("a greeting");
            assert_eq!(
                greeting,
                json!({"message": "Hello Ada", "served_by": "10.0.1.7"})
            );
            let line = function.log("received").await;
            assert_eq!(
                (&line["greeting"], &line["served_by"]),
                (&greeting["message"], &greeting["served_by"])
            );
            peers.push(server.log("call").await["peer"].clone());
            function.freeze();
            function.thaw();
        }
        assert!(
            peers.iter().all(|peer| *peer == peers[0]),
            "{url}: {peers:?}"
        );
    }
}

#[tokio::test]
async fn the_caller_finds_a_server_that_has_restarted_while_it_was_frozen() {
    // It waits in vain for one that is frozen to close its connection.
    let flags = ["--lame-duck", "0s", "--drain-timeout", "100ms"];
    let server = Process::start("greeter", &flags).await;
    let addr = server.addr;
    let function = caller(&format!("http://{addr}")).await;
    function.invoke(&ada()).await.expect("a greeting");
    function.freeze();
    server.signal(Signal::TERM);
    server.exit().await;
    let _server = Process::start_at(addr, "greeter", &[]).await;
    function.thaw();
    function
        .invoke(&ada())
        .await
        .expect("a greeting of the next");
}

#[tokio::test]
async fn the_caller_does_not_wait_for_a_connection_that_has_died_in_silence() {
    let server = Process::start("greeter", &[]).await;
    let network = FaultProxy::start(server.addr).await;
    let function = caller(&format!("http://{}", network.addr)).await;
    function.invoke(&ada()).await.expect("a greeting");
    network.wedge();
    let left = Duration::from_secs(3);
    let greeting = function.invoke_for(left, &ada()).await;
    assert_eq!(greeting.expect("a greeting")["message"], "Hello Ada");
    assert_eq!(network.connections(), 2);
}

#[tokio::test]
async fn the_caller_fails_with_the_code_in_the_type() {
    let server = Process::start("greeter", &[]).await;
    let function = caller(&format!("http://{}", server.addr)).await;
    let event = json!({"name": ""});
    let error = function.invoke(&event).await.expect_err("refused");
    let text = "name: must not be empty";
    assert_eq!(
        error,
        json!({"errorType": "Grpc.InvalidArgument", "errorMessage": text})
    );
    function.invoke(&json!({})).await.expect_err("no name");

    let addr = server.addr;
    server.signal(Signal::KILL);
    server.exit().await;
    let error = function.invoke(&ada()).await.expect_err("nobody there");
    assert_eq!(error["errorType"], "Grpc.Unavailable", "{error}");
    let _server = Process::start_at(addr, "greeter", &[]).await;
    function.invoke(&ada()).await.expect("there again");
}

#[tokio::test]
async fn the_caller_tries_again_what_may_be_tried_again() {
    let scripted_server = ScriptedServer::start(|_| UNAVAILABLE).await;
    let function = caller(&format!("http://{}", scripted_server.addr)).await;
    let error = function.invoke(&ada()).await.expect_err("unavailable");
    assert_eq!(error["errorType"], "Grpc.Unavailable", "{error}");
    let seen = scripted_server.seen();
    let again = |seen: &Seen| seen.headers.contains_key("grpc-previous-rpc-attempts");
    assert!(seen.iter().any(again), "by the channel: {seen:?}");
    let anew = seen.iter().filter(|seen| !again(seen));
    assert_eq!(anew.count(), 2, "on another channel: {seen:?}");
}

#[tokio::test]
async fn the_caller_waits_neither_for_long_nor_to_the_end_of_the_invocation() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let function = caller(&format!("http://{}", silent.local_addr().expect("bound"))).await;
    for (left, limit) in [(1, 1), (30, 4)]
        .map(|(left, limit)| (Duration::from_secs(left), Duration::from_secs(limit)))
    {
        let began = Instant::now();
        let error = function.invoke_for(left, &ada()).await;
        let error = error.expect_err("nobody speaks");
        assert_eq!(error["errorType"], "Grpc.DeadlineExceeded", "{error}");
        assert!(began.elapsed() < limit, "{:?} of {left:?}", began.elapsed());
    }
}

#[tokio::test]
async fn the_caller_does_not_start_without_the_address_of_the_greeter() {
    for (environment, why) in [
        (None, "GREETER_URL: environment variable not found"),
        (Some("ftp://greeter"), "GREETER_URL=ftp://greeter: neither"),
    ] {
        let mut program = command("greeter-caller", &[]);
        program.envs(environment.map(|url| ("GREETER_URL", url)));
        let ended = output(&mut program).await;
        assert!(!ended.status.success());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains(why), "{said}");
    }
}
