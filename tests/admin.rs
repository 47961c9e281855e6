//! The admin pages.

use std::net::SocketAddr;

use harness::{raw, start, within};
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The status and body of a page, over HTTP/1.1 as platforms ask.
async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr)
        .await
        .expect("a server that listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head
        .split(' ')
        .nth(1)
        .expect("a status")
        .parse()
        .expect("a number");
    (status, body.trim_end().to_owned())
}

#[tokio::test]
async fn the_pages_say_alive_ready_and_which_version() {
    let server = start(greeter::APP, &[]).await;
    assert_eq!(get(server.admin, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(
        get(server.admin, "/readyz").await,
        (200, "serving".to_owned())
    );
    let version = format!("greeter {}", chassis::VERSION);
    assert_eq!(get(server.admin, "/version").await, (200, version));
    assert_eq!(get(server.admin, "/").await.0, 404);
}

#[tokio::test]
async fn the_pages_are_served_over_http_2_as_well() {
    let server = start(greeter::APP, &[]).await;
    let request = Request::get(format!("http://{}/readyz", server.admin));
    let answer = raw(
        server.admin,
        request.body(Default::default()).expect("a request"),
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_ref()),
        (200, b"serving\n".as_slice())
    );
}

#[tokio::test]
async fn a_server_that_shuts_down_is_alive_but_not_ready() {
    let mut server = start(greeter::APP, &["--lame-duck", "1h"]).await;
    server.stop();
    within(async { while get(server.admin, "/readyz").await.0 == 200 {} }).await;
    assert_eq!(
        get(server.admin, "/readyz").await,
        (503, "lame duck".to_owned())
    );
    assert_eq!(get(server.admin, "/healthz").await, (200, "ok".to_owned()));
}
