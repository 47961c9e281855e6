//! One line for each call, whatever its end.

use std::{
    io,
    process::Stdio,
    sync::{Arc, Mutex},
};

use harness::{Process, command, get, start, within};
use proto::{
    helloworld::{HelloRequest, greeter_client::GreeterClient},
    routeguide::{Point, Rectangle, route_guide_client::RouteGuideClient},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::{Level, subscriber::DefaultGuard};

use crate::{
    pki::Pki,
    route_guide::recording,
    scripted::{self, hello},
};

#[tokio::test]
async fn a_call_is_logged_with_all_that_is_known_of_it() {
    let mut server = Process::start("greeter", &[]).await;
    let mut request = Request::new(HelloRequest { name: "Ada".into() });
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
    GreeterClient::new(server.channel())
        .say_hello(request)
        .await
        .expect("a reply");
    let line = server.log("call").await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["method"], "/helloworld.Greeter/SayHello");
    assert_eq!(line["code"], "OK");
    assert_eq!(
        (&line["messages_in"], &line["messages_out"]),
        (&1.into(), &1.into())
    );
    assert_eq!(line["forwarded_for"], "203.0.113.7");
    assert_eq!(line["trace_id"], "Root=1-67891233-abcdef012345678912345678");
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
async fn a_stream_is_logged_at_its_end_with_its_messages_counted() {
    let mut server = Process::start("route-guide", &[]).await;
    let mut client = RouteGuideClient::new(server.channel());
    let (lo, hi) = (
        Point {
            latitude: 0,
            longitude: -900_000_000,
        },
        Point::default(),
    );
    let far = Point {
        latitude: 900_000_000,
        ..hi
    };
    for (corner, code, messages) in [(Some(far), "OK", 100), (None, "INVALID_ARGUMENT", 0)] {
        if let Ok(features) = client
            .list_features(Rectangle {
                lo: Some(lo),
                hi: corner,
            })
            .await
        {
            let mut features = features.into_inner();
            while features.message().await.expect("a whole list").is_some() {}
        }
        let line = server.log("call").await;
        assert_eq!(line["method"], "/routeguide.RouteGuide/ListFeatures");
        assert_eq!(
            (&line["code"], &line["messages_out"]),
            (&code.into(), &messages.into())
        );
    }
    let points = tokio_stream::iter([hi; 1000]);
    client.record_route(points).await.expect("a summary");
    let line = server.log("call").await;
    assert_eq!(
        (&line["messages_in"], &line["messages_out"]),
        (&1000.into(), &1.into())
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_before_its_answer_is_logged_as_cancelled() {
    let mut server = Process::start("route-guide", &[]).await;
    let client = RouteGuideClient::new(server.channel());
    let (_points, route) = recording(&client).await;
    server.log("call").await;
    route.abort();
    assert_cancelled(&server.log("call").await, "RecordRoute", 0);
}

#[tokio::test]
async fn a_call_that_is_given_up_in_its_answer_is_logged_as_cancelled() {
    // Far more than fits into a window that nobody empties.
    let place = |latitude| json!({"location": {"latitude": latitude, "longitude": 0}, "name": ""});
    let places: Value = (0..100_000).map(place).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, places.to_string()).expect("written");
    let path = file.path().to_str().expect("a path");

    let mut server = Process::start("route-guide", &["--features-file", path]).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.addr)).expect("a URL");
    let small_window = endpoint.initial_stream_window_size(65_535).connect_lazy();
    let mut client = RouteGuideClient::new(small_window);
    let far = Point {
        latitude: 900_000_000,
        longitude: 0,
    };
    let everywhere = Rectangle {
        lo: Some(Point::default()),
        hi: Some(far),
    };
    let mut features = client
        .list_features(everywhere)
        .await
        .expect("features")
        .into_inner();
    features.message().await.expect("a feature");
    drop(features);
    let line = server.log("call").await;
    let sent = line["messages_out"].as_u64().expect("a number");
    assert!((1..100_000).contains(&sent), "{line}");
    assert_cancelled(&line, "ListFeatures", sent);
}

#[tokio::test]
async fn a_call_whose_client_is_killed_is_logged_as_cancelled() {
    let mut server = Process::start("route-guide", &[]).await;
    let addr = format!("http://{}", server.addr);
    let mut chat = command("route-guide-client", &["route-chat", "--addr", &addr]);
    let mut chat = chat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client");
    let mut notes = chat.stdin.take().expect("piped");
    notes.write_all(b"0,0,a\n0,0,b\n").await.expect("typed");
    let mut answers = BufReader::new(chat.stdout.take().expect("piped")).lines();
    within(answers.next_line())
        .await
        .expect("readable")
        .expect("a note");
    chat.kill().await.expect("killed");
    assert_cancelled(&server.log("call").await, "RouteChat", 1);
}

fn assert_cancelled(line: &Value, method: &str, messages_out: u64) {
    assert_eq!(line["method"], format!("/routeguide.RouteGuide/{method}"));
    assert_eq!(line["code"], "CANCELLED", "{line}");
    assert_eq!(line["messages_out"], messages_out, "{line}");
}

#[tokio::test]
async fn health_checks_are_logged_only_at_debug() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const OTHER: &str = "/no.Such/Method";
    for (level, logged) in [("info", false), ("debug", true)] {
        let mut server = Process::start("greeter", &["--log", level]).await;
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

    let server = start(scripted::APP, &[]).await;
    let mut client = GreeterClient::new(server.channel());
    let status = client
        .say_hello(hello("panic at once"))
        .await
        .expect_err("a panic");
    assert_eq!(status.code(), Code::Internal);

    // A stream that is cut short must not look complete.
    for name in ["panic in between", "produce and panic"] {
        let replies = client.say_hello_stream_reply(hello(name)).await;
        let replies: Vec<_> = replies.expect("a stream").into_inner().collect().await;
        let end = replies.last().expect("an end").as_ref();
        assert_eq!(end.expect_err("a panic").code(), Code::Internal);
    }

    let status = client
        .say_hello_bidi_stream(tokio_stream::iter([hello("panic in both")]))
        .await
        .expect_err("a panic");
    assert_eq!(status.code(), Code::Internal);

    let (_, metrics) = get(server.admin, "/metrics").await;
    assert!(metrics.contains("grpc_panics_total 4"), "{metrics}");
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
    let server = Process::start("greeter", &flags).await;
    let mut client = GreeterClient::new(server.channel());
    for _ in 0..1000 {
        within(client.say_hello(hello("Ada")))
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

/// Log lines of this thread, kept.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps them from now on, for as long as the guard is kept.
    pub(crate) fn keep(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let lines = tracing_subscriber::fmt().json().flatten_event(true);
        let lines = lines.with_max_level(level).with_writer(log.clone());
        (log, tracing::subscriber::set_default(lines.finish()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("sound").clone()).expect("text")
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().expect("sound"), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
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
        let mut server = command("greeter", &listen);
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
