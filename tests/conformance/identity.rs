//! Who answered.

use std::net::SocketAddr;

use harness::{Answer, raw, start, start_in};
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

async fn call(addr: SocketAddr, path: &str) -> Answer {
    let request = Request::post(format!("http://{addr}{path}"))
        .header("content-type", "application/grpc")
        .body(b"\0\0\0\0\0".as_slice().into());
    raw(addr, request.expect("a request")).await
}

fn served_by(answer: &Answer) -> [Option<&str>; 3] {
    ["x-served-by", "x-served-version", "x-served-zone"].map(|name| {
        answer
            .headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    })
}

#[tokio::test]
async fn every_answer_says_which_pod_gave_it() {
    let pod = [("POD_IP", "10.1.2.3"), ("ZONE", "eu-west-1a")];
    let server = start_in(echo::APP, &[], &pod).await;
    for (path, status) in [
        ("/grpc.examples.echo.Echo/UnaryEcho", "0"),
        ("/grpc.examples.echo.Echo/ServerStreamingEcho", "0"),
        ("/grpc.examples.echo.Echo/NoSuchMethod", "12"),
        ("/no.Such/Service", "12"),
        ("/grpc.health.v1.Health/Check", "0"),
        ("/AWS.ALB/healthcheck", "0"),
        ("/", "12"),
    ] {
        let answer = call(server.addr, path).await;
        let code = answer
            .trailers
            .get("grpc-status")
            .or(answer.headers.get("grpc-status"));
        assert_eq!(code.expect("a status"), status, "{path}");
        let expected = [Some("10.1.2.3"), Some(chassis::VERSION), Some("eu-west-1a")];
        assert_eq!(served_by(&answer), expected, "{path}");
    }
}

/// Answers once for ECS, with a task that has these networks; returns the endpoint.
async fn ecs_task(networks: &str) -> String {
    let task = format!(
        r#"{{"Cluster":"c","AvailabilityZone":"eu-west-1b","Containers":[
            {{"Name":"log","Networks":[]}},{{"Name":"app","Networks":[{networks}]}}]}}"#
    );
    let metadata = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}/v4/0123", metadata.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut stream, _) = metadata.accept().await.expect("a caller");
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.expect("a request");
        assert!(request[..length].starts_with(b"GET /v4/0123/task HTTP/1.1\r\n"));
        let length = task.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{task}");
        stream.write_all(answer.as_bytes()).await.expect("answered");
    });
    endpoint
}

#[tokio::test]
async fn an_ecs_task_is_named_by_its_private_address() {
    const IPV6: &str = "2001:db8::6a";
    for (networks, address) in [
        (
            r#"{"NetworkMode":"awsvpc","IPv4Addresses":["10.0.2.106"]}"#,
            "10.0.2.106",
        ),
        (
            r#"{"IPv6Addresses":["2001:db8::6a"],"IPv4Addresses":["10.0.2.106"]}"#,
            "10.0.2.106",
        ),
        (
            r#"{"IPv6Addresses":["2001:db8::6a"]},{"IPv4Addresses":["10.0.2.106"]}"#,
            "10.0.2.106",
        ),
        (r#"{"IPv6Addresses":["2001:db8::6a"]}"#, IPV6),
        (
            r#"{"IPv4Addresses":[],"IPv6Addresses":["2001:db8::6a"]}"#,
            IPV6,
        ),
    ] {
        let endpoint = ecs_task(networks).await;
        let environment = [("ECS_CONTAINER_METADATA_URI_V4", &endpoint)];
        let server = start_in(echo::APP, &[], &environment).await;
        let answer = call(server.addr, "/").await;
        let expected = [Some(address), Some(chassis::VERSION), Some("eu-west-1b")];
        assert_eq!(served_by(&answer), expected, "{networks}");
    }
}

#[tokio::test]
async fn without_a_platform_it_is_the_host_name_and_the_port() {
    // A metadata endpoint that nobody answers does not stop the start.
    let nobody = [(
        "ECS_CONTAINER_METADATA_URI_V4",
        "http://127.0.0.1:1/v4/0123",
    )];
    let host = gethostname::gethostname().into_string().expect("text");
    for listen in ["127.0.0.1:0", "[::1]:0", ":0"] {
        let server = start_in(echo::APP, &["--listen", listen], &nobody).await;
        let answer = call(server.addr, "/").await;
        let name = format!("{host}:{}", server.addr.port());
        let expected = [Some(name.as_str()), Some(chassis::VERSION), None];
        assert_eq!(served_by(&answer), expected, "{listen}");
    }
}

#[tokio::test]
async fn one_switch_turns_it_off() {
    let server = start(echo::APP, &["--served-by", "false"]).await;
    assert_eq!(served_by(&call(server.addr, "/").await), [None; 3]);
}
