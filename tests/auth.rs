//! Bearer tokens.

use harness::{Running, start};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tempfile::NamedTempFile;
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

async fn hello(server: &Running, authorization: &str) -> Result<(), Status> {
    let mut request = Request::new(HelloRequest { name: "Ada".into() });
    if !authorization.is_empty() {
        let shown = authorization.parse().expect("a header");
        request.metadata_mut().insert("authorization", shown);
    }
    let mut greeter = GreeterClient::new(server.channel());
    greeter.say_hello(request).await.map(|_| ())
}

#[tokio::test]
async fn with_a_file_of_tokens_a_call_must_show_one_and_health_need_not() {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(&file, "# for the tests\nfirst\n\nsecond\n").expect("written");
    let path = file.path().to_str().expect("text");
    let server = start(greeter::APP, &["--tokens-file", path]).await;
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
