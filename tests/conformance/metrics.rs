//! What `/metrics` says, under which names.

use std::collections::BTreeMap;

use echo::pb::echo_client::EchoClient;
use harness::{PREFACE, Running, get, raw, start, within};
use http::Request;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

const DOCUMENT: &str = include_str!("../../docs/observability.md");

async fn metrics(server: &Running) -> String {
    get(server.admin, "/metrics").await.1
}

/// Waits for a line of `/metrics`.
async fn metrics_say(server: &Running, line: &str) {
    within(async { while !metrics(server).await.lines().any(|found| found == line) {} }).await;
}

/// The labels of a method, as go-grpc-prometheus has them.
fn labels(kind: &str, method: &str) -> String {
    format!(r#"grpc_type="{kind}",grpc_service="grpc.examples.echo.Echo",grpc_method="{method}""#)
}

/// Makes a call of every kind, and one that fails.
async fn call_everything(server: &Running) {
    let mut client = EchoClient::new(server.channel());
    let request = echo::request("repeat 5 times");
    client.unary_echo(request.clone()).await.expect("a reply");
    let failed = client.unary_echo(echo::request("fail")).await;
    failed.expect_err("told to fail");
    let responses = client.server_streaming_echo(request.clone()).await;
    let responses = responses.expect("a stream").into_inner();
    assert_eq!(responses.collect::<Vec<_>>().await.len(), 5);
    let requests = tokio_stream::iter(vec![request.clone(); 3]);
    let response = client.client_streaming_echo(requests).await;
    response.expect("a response");
    let requests = tokio_stream::iter(vec![request; 3]);
    let responses = client.bidirectional_streaming_echo(requests).await;
    let responses = responses.expect("a stream").into_inner();
    assert_eq!(responses.collect::<Vec<_>>().await.len(), 3);
}

#[tokio::test]
async fn calls_are_counted_under_the_names_of_go_grpc_prometheus() {
    let server = start(echo::APP, &[]).await;
    call_everything(&server).await;
    for (kind, method, [calls, received, sent]) in [
        ("unary", "UnaryEcho", [2, 2, 1]),
        ("server_stream", "ServerStreamingEcho", [1, 1, 5]),
        ("client_stream", "ClientStreamingEcho", [1, 3, 1]),
        ("bidi_stream", "BidirectionalStreamingEcho", [1, 3, 3]),
    ] {
        let method = labels(kind, method);
        for (name, count) in [
            ("started_total", calls),
            ("handling_seconds_count", calls),
            ("msg_received_total", received),
            ("msg_sent_total", sent),
        ] {
            metrics_say(&server, &format!("grpc_server_{name}{{{method}}} {count}")).await;
        }
        let handled = format!(r#"grpc_server_handled_total{{{method},grpc_code="OK"}} 1"#);
        metrics_say(&server, &handled).await;
    }
    let failed = labels("unary", "UnaryEcho") + r#",grpc_code="InvalidArgument""#;
    metrics_say(&server, &format!("grpc_server_handled_total{{{failed}}} 1")).await;
}

#[tokio::test]
async fn messages_of_a_stream_are_counted_before_it_ends() {
    let server = start(echo::APP, &[]).await;
    let mut client = EchoClient::new(server.channel());
    let (requests, sent) = mpsc::channel(1);
    requests.send(echo::request("chat")).await.expect("room");
    let chat = client.bidirectional_streaming_echo(ReceiverStream::new(sent));
    let mut chat = chat.await.expect("a chat").into_inner();
    within(chat.message()).await.expect("a response");
    let method = labels("bidi_stream", "BidirectionalStreamingEcho");
    for name in ["started", "msg_received", "msg_sent"] {
        metrics_say(&server, &format!("grpc_server_{name}_total{{{method}}} 1")).await;
    }
    let text = metrics(&server).await;
    assert!(text.contains("grpc_server_in_flight 1\n"), "{text}");
    let handled = format!(r#"grpc_server_handled_total{{{method},grpc_code="OK"}} 0"#);
    assert!(text.contains(&handled), "{text}");
}

#[tokio::test]
async fn paths_that_callers_make_up_are_counted_as_one() {
    let server = start(echo::APP, &[]).await;
    for path in ["/no.Such/Method", "/other.Service/Method"] {
        let request = Request::post(format!("{}{path}", server.url()));
        let request = request.header("content-type", "application/grpc");
        let request = request.body(b"\0\0\0\0\0".as_slice().into());
        raw(server.addr, request.expect("a request")).await;
    }
    let unknown = r#"grpc_type="unary",grpc_service="unknown",grpc_method="unknown""#;
    let line = format!(r#"grpc_server_handled_total{{{unknown},grpc_code="Unimplemented"}} 2"#);
    metrics_say(&server, &line).await;
    assert!(!metrics(&server).await.contains("no.Such"));
}

#[tokio::test]
async fn the_page_says_that_it_is_openmetrics_and_the_others_that_they_are_text() {
    let server = start(echo::APP, &[]).await;
    let text = "text/plain; charset=utf-8";
    for (path, expected) in [
        (
            "/metrics",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("/healthz", text),
        ("/readyz", text),
        ("/version", text),
        ("/no-such-page", text),
    ] {
        let request = Request::get(format!("http://{}{path}", server.admin));
        let request = request.body(Default::default()).expect("a request");
        let found = raw(server.admin, request).await;
        assert_eq!(found.headers["content-type"], expected, "{path}");
    }
}

/// The names and types that a page of metrics declares.
fn declared(page: &str) -> BTreeMap<&str, &str> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).collect()
}

/// The names and types of the table in the documents.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| row.split_once("` | "));
    rows.map(|(name, rest)| (name, rest.split(' ').next().expect("a type")))
        .collect()
}

#[tokio::test]
async fn every_metric_is_in_the_table_of_the_documents_with_its_type() {
    let flags = ["--max-calls", "1", "--max-calls-per-peer", "1"];
    let server = start(echo::APP, &flags).await;
    call_everything(&server).await;
    // One that is refused, and one that fails.
    let client = EchoClient::new(server.channel());
    let (_requests, sent) = mpsc::channel(1);
    let mut caller = client.clone();
    let open = async move {
        caller
            .client_streaming_echo(ReceiverStream::new(sent))
            .await
    };
    let open = tokio::spawn(open);
    within(async { while !metrics(&server).await.contains("grpc_server_in_flight 1\n") {} }).await;
    let refused = client
        .clone()
        .unary_echo(echo::request("one too many"))
        .await;
    refused.expect_err("a limit");
    let mut faulty = TcpStream::connect(server.addr).await.expect("queued");
    let frames = [PREFACE, &[0xff; 64]].concat();
    faulty.write_all(&frames).await.expect("sent");
    within(async { while !metrics(&server).await.contains("connections_failed_total{") {} }).await;
    open.abort();

    let page = metrics(&server).await;
    let declared = declared(&page);
    let mut documented = documented();
    // Only a service that says so depends on something.
    assert_eq!(documented.remove("dependency_up"), Some("gauge"));
    assert_eq!(declared, documented);
}
