//! Peers that speak another protocol than the port: each is counted by its reason, and logged with what to change.

use echo::pb::echo_client::EchoClient;
use harness::{NOTHING, PREFACE, Running, get, log::Log, pki::Pki, start_in, within};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tracing::Level;

/// The beginning of a TLS handshake: a record with a ClientHello in it.
const CLIENT_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Waits until so many connections have failed for this reason.
async fn failed(server: &Running, reason: &str, count: u32) {
    let line = format!(r#"grpc_server_connections_failed_total{{reason="{reason}"}} {count}"#);
    let says_so = async || get(server.admin, "/metrics").await.1.contains(&line);
    within(async { while !says_so().await {} }).await;
}

async fn send(server: &Running, bytes: &[u8]) -> TcpStream {
    let mut peer = TcpStream::connect(server.addr).await.expect("queued");
    peer.write_all(bytes).await.expect("sent");
    peer
}

/// The only warning with this reason.
fn warning(log: &Log, reason: &str) -> serde_json::Value {
    let lines = log.lines().into_iter();
    let mut lines = lines.filter(|line| line["level"] == "WARN" && line["reason"] == reason);
    let line = lines.next().expect("a warning");
    assert!(lines.next().is_none(), "a second warning within a minute");
    line
}

#[tokio::test]
async fn http_1_and_tls_on_a_plaintext_port_are_named_and_told_what_to_change() {
    let (log, _logging) = Log::keep(Level::WARN);
    let server = start_in(echo::APP, &[], NOTHING).await;
    let http1 = b"GET /healthz HTTP/1.1\r\nhost: echo\r\n\r\n";
    for (reason, bytes, hint) in [
        ("http1", http1.as_slice(), "GRPC or HTTP2"),
        ("tls_to_plaintext", CLIENT_HELLO, "TLS_CERT and TLS_KEY"),
    ] {
        for count in 1..=3 {
            let _peer = send(&server, bytes).await;
            failed(&server, reason, count).await;
        }
        let line = warning(&log, reason);
        assert!(
            line["hint"].as_str().expect("a hint").contains(hint),
            "{line}"
        );
        assert!(
            line["peer"]
                .as_str()
                .expect("a peer")
                .starts_with("127.0.0.1:")
        );
    }
    // A legal client is none of them.
    let mut client = EchoClient::new(server.channel());
    client
        .unary_echo(echo::request("legal"))
        .await
        .expect("a response");
    let (_, metrics) = get(server.admin, "/metrics").await;
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("grpc_server_connections_failed_total"));
    assert_eq!(counts.count(), 2, "{metrics}");
}

#[tokio::test]
async fn plaintext_on_a_tls_port_and_a_handshake_that_fails_are_named() {
    let (log, _logging) = Log::keep(Level::WARN);
    let pki = Pki::new();
    let server = start_in(echo::APP, &[], &pki.tls()).await;
    let _peer = send(&server, PREFACE).await;
    failed(&server, "plaintext_to_tls", 1).await;
    let line = warning(&log, "plaintext_to_tls");
    assert!(
        line["hint"].as_str().expect("a hint").contains("with TLS"),
        "{line}"
    );

    // It trusts another authority, and says so by an alert.
    let stranger = Certificate::from_pem(Pki::new().pem("ca.pem"));
    let tls = ClientTlsConfig::new().ca_certificate(stranger);
    let endpoint = Endpoint::from_shared(format!("https://{}", server.addr)).expect("a URL");
    let endpoint = endpoint.tls_config(tls).expect("TLS");
    endpoint.connect().await.expect_err("another authority");
    failed(&server, "tls_handshake", 1).await;
    let line = warning(&log, "tls_handshake");
    assert!(
        line["error"].as_str().expect("an error").contains("alert"),
        "{line}"
    );
    assert!(line["hint"].is_null(), "{line}");
}
