//! Bearer tokens.

use echo::pb::{EchoRequest, echo_client::EchoClient};
use harness::{Running, get, start, within};
use tempfile::NamedTempFile;
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::Level;

use harness::log::Log;

async fn hello(server: &Running, authorization: &str) -> Result<(), Status> {
    let mut request = Request::new(EchoRequest {
        message: "Ada".into(),
    });
    if !authorization.is_empty() {
        let shown = authorization.parse().expect("a header");
        request.metadata_mut().insert("authorization", shown);
    }
    let mut greeter = EchoClient::new(server.channel());
    greeter.unary_echo(request).await.map(|_| ())
}

#[tokio::test]
async fn with_a_file_of_tokens_a_call_must_show_one_and_health_need_not() {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(&file, "# for the tests\nfirst\n\nsecond\n").expect("written");
    let path = file.path().to_str().expect("text");
    let server = start(echo::APP, &["--tokens-file", path]).await;
    for known in ["Bearer first", "bearer second"] {
        hello(&server, known).await.expect(known);
    }
    for unknown in [
        "",
        "Bearer third",
        "Bearer firs",
        "Bearer # for the tests",
        "Basic first",
        "first",
    ] {
        let status = hello(&server, unknown).await.expect_err(unknown);
        assert_eq!(status.code(), Code::Unauthenticated, "{unknown:?}");
        assert!(!status.message().contains("third"), "{status}");
    }
    let mut health = HealthClient::new(server.channel());
    let check = health.check(HealthCheckRequest::default()).await;
    check.expect("a status");
}

#[tokio::test]
async fn new_tokens_are_used_without_a_restart_and_bad_ones_are_told_and_not_used() {
    let (log, _logging) = Log::keep(Level::INFO);
    let file = NamedTempFile::new().expect("a file");
    // With the mark that some editors put first.
    std::fs::write(&file, "\u{feff}first\n").expect("written");
    let path = file.path().to_str().expect("text");
    let server = start(echo::APP, &["--tokens-file", path]).await;
    hello(&server, "Bearer first").await.expect("known");
    std::fs::write(&file, "second\n").expect("written");
    within(async { while hello(&server, "Bearer second").await.is_err() {} }).await;
    hello(&server, "Bearer first").await.expect_err("withdrawn");

    std::fs::write(&file, "# none\n").expect("written");
    let told = within(async {
        loop {
            let (status, text) = get(server.admin, "/readyz").await;
            if text != "serving" {
                break (status, text);
            }
        }
    });
    let problem = format!("TOKENS_FILE={path}: no token in this file");
    let expected = format!("serving\ntokens not reloaded, previous in use: {problem}");
    assert_eq!(told.await, (200, expected));
    hello(&server, "Bearer second").await.expect("the old ones");
    let (_, metrics) = get(server.admin, "/metrics").await;
    let gauge = r#"file_problem{what="tokens"} 1"#;
    assert!(metrics.contains(gauge), "{metrics}");
    let lines = log.lines().into_iter();
    let warnings: Vec<_> = lines.filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["problem"], problem);
}
