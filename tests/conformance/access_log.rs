//! One line for each call, whatever its end.

use std::process::Stdio;

use echo::pb::echo_client::EchoClient;
use harness::{FaultProxy, Process, channel, command, get, log::Log, pki::Pki, start, within};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::Level;

use crate::streaming::streaming;

#[tokio::test]
async fn a_call_is_logged_with_all_that_is_known_of_it() {
    let mut server = Process::start("echo", &[]).await;
    let mut request = Request::new(echo::request("Ada"));
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7"),
        (
            "x-amzn-trace-id",
            "Root=1-67891233-abcdef012345678912345678",
        ),
    ] {
        request
            .metadata_mut()
            .insert(name, value.parse().expect("text"));
    }
    EchoClient::new(server.channel())
        .unary_echo(request)
        .await
        .expect("a reply");
    let line = server.log("call").await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["method"], "/grpc.examples.echo.Echo/UnaryEcho");
    assert_eq!(line["code"], "OK");
    assert_eq!(
        (&line["messages_in"], &line["messages_out"]),
        (&1.into(), &1.into())
    );
    assert_eq!(line["forwarded_for"], "203.0.113.7");
    assert_eq!(line["trace_id"], "67891233abcdef012345678912345678");
    assert!(
        line["peer"]
            .as_str()
            .expect("an address")
            .starts_with("127.0.0.1:"),
        "{line}"
    );
    assert!(
        line["user_agent"]
            .as_str()
            .expect("text")
            .starts_with("tonic/"),
        "{line}"
    );
    assert!(
        line["duration_ms"].as_f64().expect("a number") >= 0.0,
        "{line}"
    );
}

#[tokio::test]
async fn the_trace_of_the_client_is_logged_beside_that_of_the_load_balancer() {
    let mut server = Process::start("echo", &[]).await;
    let amzn = "Root=1-67891233-abcdef012345678912345678";
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let of_client = "4bf92f3577b34da6a3ce929d0e0e4736";
    let of_balancer = "67891233abcdef012345678912345678";
    for (headers, expected) in [
        (vec![], [None, None]),
        (vec![("x-amzn-trace-id", amzn)], [Some(of_balancer), None]),
        (vec![("traceparent", parent)], [Some(of_client), None]),
        (
            vec![("traceparent", parent), ("x-amzn-trace-id", amzn)],
            [Some(of_client), Some(of_balancer)],
        ),
        (
            vec![
                ("traceparent", "00-no\t-trace-01"),
                ("x-amzn-trace-id", "Root=0"),
            ],
            [None, None],
        ),
    ] {
        let mut request = Request::new(echo::request("traced"));
        for (name, value) in headers {
            let value = value.parse().expect("a value");
            request.metadata_mut().insert(name, value);
        }
        let mut client = EchoClient::new(server.channel());
        client.unary_echo(request).await.expect("a response");
        let line = server.log("call").await;
        let found = ["trace_id", "balancer_trace_id"].map(|field| line[field].as_str());
        assert_eq!(found, expected, "{line}");
    }
}

#[tokio::test]
async fn a_stream_is_logged_at_its_end_with_its_messages_counted() {
    let mut server = Process::start("echo", &[]).await;
    let mut client = EchoClient::new(server.channel());
    for (message, code, messages) in [
        ("repeat 50001 times", "OK", 50_001),
        ("fail at once", "INVALID_ARGUMENT", 0),
    ] {
        if let Ok(responses) = client.server_streaming_echo(echo::request(message)).await {
            let mut responses = responses.into_inner();
            while responses.message().await.expect("a whole stream").is_some() {}
        }
        let line = server.log("call").await;
        assert_eq!(line["method"], echo::SERVER_STREAMING);
        let found = (&line["code"], &line["messages_out"]);
        assert_eq!(found, (&code.into(), &messages.into()));
    }
    let requests = tokio_stream::iter(vec![echo::request("one of many"); 1000]);
    let response = client.client_streaming_echo(requests).await;
    response.expect("a response");
    let line = server.log("call").await;
    let found = (&line["messages_in"], &line["messages_out"]);
    assert_eq!(found, (&1000.into(), &1.into()));
}

#[tokio::test]
async fn a_call_that_is_cancelled_before_its_response_is_logged_as_cancelled() {
    let mut server = Process::start("echo", &[]).await;
    let client = EchoClient::new(server.channel());
    let (_requests, response) = streaming(&client).await;
    server.log("call").await;
    response.abort();
    assert_cancelled(&server.log("call").await, echo::CLIENT_STREAMING, 0);
}

#[tokio::test]
async fn a_call_that_is_cancelled_in_its_response_is_logged_as_cancelled() {
    let mut server = Process::start("echo", &[]).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.addr)).expect("a URL");
    let small_window = endpoint.initial_stream_window_size(65_535).connect_lazy();
    let mut client = EchoClient::new(small_window);
    let request = echo::request("repeat 50001 times into a window");
    let responses = client.server_streaming_echo(request).await;
    let mut responses = responses.expect("responses").into_inner();
    responses.message().await.expect("a response");
    drop(responses);
    let line = server.log("call").await;
    let sent = line["messages_out"].as_u64().expect("a number");
    assert!((1..50_000).contains(&sent), "{line}");
    assert_cancelled(&line, echo::SERVER_STREAMING, sent);
}

#[tokio::test]
async fn a_call_whose_connection_is_lost_is_logged_as_cancelled() {
    let mut server = Process::start("echo", &[]).await;
    let proxy = FaultProxy::start(server.addr).await;
    let mut client = EchoClient::new(channel(proxy.addr));
    let (requests, sent) = mpsc::channel(1);
    requests.send(echo::request("chat")).await.expect("room");
    let chat = client.bidirectional_streaming_echo(ReceiverStream::new(sent));
    let mut chat = chat.await.expect("a chat").into_inner();
    within(chat.message()).await.expect("a response");
    proxy.cut();
    assert_cancelled(&server.log("call").await, echo::BIDIRECTIONAL, 1);
}

fn assert_cancelled(line: &Value, method: &str, messages_out: u64) {
    assert_eq!(line["method"], method);
    assert_eq!(line["code"], "CANCELLED", "{line}");
    assert_eq!(line["messages_out"], messages_out, "{line}");
}

#[tokio::test]
async fn health_checks_are_logged_only_at_debug() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const OTHER: &str = "/no.Such/Method";
    for (level, logged) in [("info", false), ("debug", true)] {
        let mut server = Process::start("echo", &["--log", level]).await;
        // Twice, so that a line of the first check cannot come after the last line that is read.
        for _ in 0..2 {
            let mut health = HealthClient::new(server.channel());
            health
                .check(HealthCheckRequest::default())
                .await
                .expect("a status");
            for path in ["/AWS.ALB/healthcheck", OTHER] {
                let request = http::Request::post(format!("http://{}{path}", server.addr));
                let request = request.body(Default::default()).expect("a request");
                harness::raw(server.addr, request).await;
            }
        }
        let mut methods = Vec::new();
        while methods.iter().filter(|method| *method == OTHER).count() < 2 {
            methods.push(server.log("call").await["method"].clone());
        }
        for path in [CHECK, "/AWS.ALB/healthcheck"] {
            let found = methods.iter().any(|method| method == path);
            assert_eq!(found, logged, "{path} at {level}: {methods:?}");
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_call_and_is_logged_as_internal() {
    let (log, _logging) = Log::keep(Level::INFO);

    let server = start(echo::APP, &[]).await;
    let mut client = EchoClient::new(server.channel());
    let status = client
        .unary_echo(echo::request("panic at once"))
        .await
        .expect_err("a panic");
    assert_eq!(status.code(), Code::Internal);

    // A stream that is cut short must not look complete.
    for name in ["panic in between", "produce and panic"] {
        let replies = client.server_streaming_echo(echo::request(name)).await;
        let replies: Vec<_> = replies.expect("a stream").into_inner().collect().await;
        let end = replies.last().expect("an end").as_ref();
        assert_eq!(end.expect_err("a panic").code(), Code::Internal);
    }

    let status = client
        .bidirectional_streaming_echo(tokio_stream::iter([echo::request("panic in both")]))
        .await
        .expect_err("a panic");
    assert_eq!(status.code(), Code::Internal);

    let (_, metrics) = get(server.admin, "/metrics").await;
    assert!(metrics.contains("grpc_server_panics_total 4"), "{metrics}");
    within(server.stopped()).await;
    let lines = log.lines().into_iter();
    let calls = lines.filter(|line| line["message"] == "call");
    let codes: Vec<_> = calls.map(|line| line["code"].clone()).collect();
    assert_eq!(codes, ["INTERNAL"; 4]);
}

#[tokio::test]
async fn neither_calls_nor_the_end_wait_for_somebody_who_reads_the_log() {
    // Its lines fill the pipe and then the queue, since nothing is read after the first.
    let flags = ["--log", "trace", "--lame-duck", "0s"];
    let server = Process::start("echo", &flags).await;
    let mut client = EchoClient::new(server.channel());
    for _ in 0..1000 {
        within(client.unary_echo(echo::request("Ada")))
            .await
            .expect("a reply");
    }
    let (_, metrics) = get(server.admin, "/metrics").await;
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("log_lines_dropped "));
    let dropped: u64 = dropped.expect("a gauge").parse().expect("a number");
    assert!(dropped > 0, "the queue is not full");
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn nothing_in_a_log_line_steers_a_terminal_or_ends_the_line() {
    let steers = |letter: char| {
        let is_line_end = matches!(letter, '\u{2028}' | '\u{2029}');
        is_line_end || letter.is_control()
    };
    for format in ["json", "text"] {
        let folder = tempfile::TempDir::new().expect("a folder");
        let folder = folder.path().join("a\u{85}\u{9b}1m\u{2028}b\u{2029}é\nc");
        std::fs::create_dir(&folder).expect("a folder");
        let pki = Pki::new();
        for file in ["server.pem", "server.key"] {
            std::fs::write(folder.join(file), pki.pem(file)).expect("written");
        }
        let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut server = command("echo", &listen);
        let server = server.args(["--log-format", format]);
        let server = server.stdout(Stdio::piped());
        let server = server.env("TLS_CERT", folder.join("server.pem"));
        let server = server.env("TLS_KEY", folder.join("server.key"));
        let mut server = server.spawn().expect("a server");
        let mut log = BufReader::new(server.stdout.take().expect("piped")).lines();
        within(log.next_line()).await.expect("a line");
        std::fs::remove_file(folder.join("server.key")).expect("removed");
        let line = within(async {
            loop {
                let line = log.next_line().await.expect("text").expect("a line");
                if line.contains("reload of certificates failed; keeping the previous") {
                    break line;
                }
            }
        });
        let line = line.await;
        assert!(!line.contains(steers), "{format}: {line:?}");
        assert!(line.contains("é") && line.contains("server.key"), "{line}");
    }
}
