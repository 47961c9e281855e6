//! TLS and mTLS on the gRPC listener.

use std::{sync::Arc, time::Duration};

use echo::pb::{EchoRequest, echo_client::EchoClient};
use futures_util::future::join_all;
use harness::{Running, bind, get, start_in, within};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use rustls::{
    ClientConnection,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use harness::pki::Pki;

async fn greeter(environment: &[(&str, String)]) -> Running {
    start_in(echo::APP, &[], environment).await
}

/// Trusts this authority, and no other.
fn trusting(pki: &Pki) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pki.pem("ca.pem")))
}

/// A connection of its own.
fn channel(server: &Running, tls: ClientTlsConfig) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{}", server.addr)).expect("a URL");
    endpoint.tls_config(tls).expect("TLS").connect_lazy()
}

async fn hello_on(channel: &Channel) -> Result<String, Status> {
    let request = EchoRequest {
        message: "TLS".into(),
    };
    let mut greeter = EchoClient::new(channel.clone());
    let reply = within(greeter.unary_echo(request)).await?;
    Ok(reply.into_inner().message)
}

async fn hello(server: &Running, tls: ClientTlsConfig) -> Result<String, Status> {
    hello_on(&channel(server, tls)).await
}

/// Shows this certificate of an authority, and trusts it.
fn as_client(pki: &Pki, name: &str) -> ClientTlsConfig {
    let [certificate, key] = ["pem", "key"].map(|kind| pki.pem(&format!("{name}.{kind}")));
    trusting(pki).identity(Identity::from_pem(certificate, key))
}

#[tokio::test]
async fn tls_is_served_to_those_who_trust_the_authority() {
    let pki = Pki::new();
    let server = greeter(&pki.tls()).await;
    assert_eq!(
        hello(&server, trusting(&pki)).await.expect("a reply"),
        "TLS"
    );
    hello(&server, trusting(&Pki::new()))
        .await
        .expect_err("another authority");
    let mut plaintext = EchoClient::new(server.channel());
    plaintext
        .unary_echo(EchoRequest::default())
        .await
        .expect_err("no TLS");
    assert_eq!(
        hello(&server, trusting(&pki)).await.expect("still serving"),
        "TLS"
    );
}

#[tokio::test]
async fn mtls_is_served_only_to_clients_that_the_authority_has_signed() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    let stranger = Pki::new();
    stranger.issue("client", ClientAuth);
    pki.issue_until("expired", ClientAuth, 2000);

    let server = greeter(&pki.mtls()).await;
    let known = as_client(&pki, "client");
    assert_eq!(hello(&server, known).await.expect("a reply"), "TLS");
    let strange = stranger.pem("client.pem");
    let strange = Identity::from_pem(strange, stranger.pem("client.key"));
    for (who, refused) in [
        ("no certificate", trusting(&pki)),
        ("a stranger", trusting(&pki).identity(strange)),
        ("one that has expired", as_client(&pki, "expired")),
    ] {
        hello(&server, refused).await.expect_err(who);
    }
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_is_let_go() {
    let pki = Pki::new();
    let flags = ["--handshake-timeout", "100ms"];
    let server = start_in(echo::APP, &flags, &pki.tls()).await;
    let mut slow = TcpStream::connect(server.addr).await.expect("queued");
    // The beginning of a handshake: its record type and version.
    slow.write_all(b"\x16\x03\x01").await.expect("sent");
    let _ = within(slow.read_to_end(&mut Vec::new())).await;
}

/// Connects from `127.0.0.PEER`, says this, and then nothing.
async fn silent_after(said: &[u8], peer: u8, server: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, peer], 0).into())
        .expect("a free port");
    let mut stream = socket.connect(server.addr).await.expect("queued");
    stream.write_all(said).await.expect("sent");
    stream
}

/// The first that a client says.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes all");
    hello
}

#[tokio::test]
async fn peers_that_fall_silent_in_their_handshakes_delay_nobody_else() {
    let pki = Pki::new();
    let hello_bytes = client_hello();
    for said in [&hello_bytes[..hello_bytes.len() / 2], &hello_bytes] {
        let flags = ["--max-connections-per-peer", "8"];
        let environment = [pki.tls(), vec![("HANDSHAKE_TIMEOUT", "1h".to_owned())]].concat();
        let server = start_in(echo::APP, &flags, &environment).await;
        let mut silent = Vec::new();
        for peer in 2..6 {
            for _ in 0..8 {
                silent.push(silent_after(said, peer, &server).await);
            }
        }
        for _ in 0..20 {
            hello(&server, trusting(&pki)).await.expect("a reply");
        }
    }
}

#[tokio::test]
async fn many_clients_that_come_at_once_all_get_through() {
    let pki = Pki::new();
    let flags = ["--max-connections-per-peer", "100"];
    let server = start_in(echo::APP, &flags, &pki.tls()).await;
    let hellos = (0..100).map(|_| hello(&server, trusting(&pki)));
    for reply in join_all(hellos).await {
        reply.expect("a reply");
    }
    let begins = (2..102).map(|peer| silent_after(b"", peer, &server));
    let streams = join_all(begins).await.into_iter().map(|stream| async {
        let tls = connector(&pki);
        let name = "localhost".try_into().expect("a name");
        within(tls.connect(name, stream))
            .await
            .expect("a handshake")
    });
    assert_eq!(join_all(streams).await.len(), 100);
}

/// What makes a TLS connection of one of TCP.
fn connector(pki: &Pki) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(pki.pem("ca.pem").as_bytes());
    roots.add(authority.expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

#[tokio::test]
async fn more_handshakes_than_eight_peers_may_begin_wait_for_their_turn() {
    let pki = Pki::new();
    let flags = ["--max-connections-per-peer", "1"];
    let server = start_in(echo::APP, &flags, &pki.tls()).await;
    let mut slow = Vec::new();
    for peer in 2..10 {
        slow.push(silent_after(&client_hello(), peer, &server).await);
    }
    // Until all have taken their turns, others may still come first.
    within(async {
        let patience = Duration::from_millis(200);
        while timeout(patience, hello(&server, trusting(&pki)))
            .await
            .is_ok()
        {}
    })
    .await;
    drop(slow);
    within(async { while hello(&server, trusting(&pki)).await.is_err() {} }).await;
}

/// What `/readyz` says, once it says what is waited for.
async fn readiness(server: &Running, awaited: impl Fn(&str) -> bool) -> (u16, String) {
    within(async {
        loop {
            let (status, text) = get(server.admin, "/readyz").await;
            if awaited(&text) {
                break (status, text);
            }
        }
    })
    .await
}

#[tokio::test]
async fn new_certificates_are_used_without_a_restart_and_old_connections_live_on() {
    let (pki, next) = (Pki::new(), Pki::new());
    let server = greeter(&pki.tls()).await;
    let old = channel(&server, trusting(&pki));
    hello_on(&old).await.expect("a reply");

    pki.take_over(&next, &["server.pem", "server.key"]);
    within(async { while hello(&server, trusting(&next)).await.is_err() {} }).await;
    hello(&server, trusting(&pki))
        .await
        .expect_err("the old one is gone");
    hello_on(&old).await.expect("the connection lives on");
}

#[tokio::test]
async fn a_new_authority_for_clients_is_used_without_a_restart() {
    let (pki, next) = (Pki::new(), Pki::new());
    pki.issue("client", ClientAuth);
    next.issue("client", ClientAuth);
    let server = greeter(&pki.mtls()).await;
    let identity = Identity::from_pem(next.pem("client.pem"), next.pem("client.key"));
    let newcomer = trusting(&pki).identity(identity);
    let stranger = hello(&server, newcomer.clone()).await;
    stranger.expect_err("a stranger");
    pki.take_over(&next, &["ca.pem"]);
    within(async { while hello(&server, newcomer.clone()).await.is_err() {} }).await;
}

#[tokio::test]
async fn new_certificates_that_are_no_good_are_told_and_the_old_ones_kept() {
    let (pki, next) = (Pki::new(), Pki::new());
    let trusting_old = trusting(&pki);
    let server = greeter(&pki.tls()).await;

    // Half of a new pair: its key is still to come.
    pki.take_over(&next, &["server.pem"]);
    let (status, text) = readiness(&server, |text| text != "serving").await;
    assert_eq!(status, 200, "it serves");
    assert!(
        text.contains("certificates not reloaded, previous in use: TLS_CERT="),
        "{text}"
    );
    let (_, metrics) = get(server.admin, "/metrics").await;
    assert!(metrics.contains("tls_certificate_problem 1"), "{metrics}");
    hello(&server, trusting_old).await.expect("the old pair");

    std::fs::remove_file(pki.path("server.key")).expect("a file");
    readiness(&server, |text| text.contains("TLS_KEY=")).await;

    pki.take_over(&next, &["server.key"]);
    readiness(&server, |text| text == "serving").await;
    hello(&server, trusting(&next)).await.expect("the new pair");
}

#[tokio::test]
async fn a_client_may_call_what_its_certificate_is_allowed() {
    let pki = Pki::new();
    pki.issue_to("cart", ClientAuth, "spiffe://example.org/cart");
    pki.issue_to("desk", ClientAuth, "spiffe://example.org/desk");
    let rules = "spiffe://example.org/cart /grpc.examples.echo.Echo/UnaryEcho\n\
                 spiffe://example.org/desk /grpc.reflection.v1.ServerReflection/*\n";
    pki.write("allow", rules);
    let mut environment = pki.mtls();
    environment.push(("ALLOW_FILE", pki.path("allow")));
    let server = greeter(&environment).await;

    let cart = channel(&server, as_client(&pki, "cart"));
    hello_on(&cart).await.expect("allowed");
    let status = EchoClient::new(cart)
        .server_streaming_echo(EchoRequest {
            message: "TLS".into(),
        })
        .await
        .expect_err("not allowed");
    assert_eq!(status.code(), Code::PermissionDenied);

    let desk = channel(&server, as_client(&pki, "desk"));
    let status = hello_on(&desk).await.expect_err("not allowed");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("spiffe://example.org/desk"),
        "{status}"
    );
    // Whoever has a certificate may ask how the server is.
    let check = HealthClient::new(desk)
        .check(HealthCheckRequest::default())
        .await;
    check.expect("a status");
}

#[tokio::test]
async fn a_uri_of_a_certificate_is_not_taken_for_a_host_of_that_name() {
    let pki = Pki::new();
    pki.issue_to("desk", ClientAuth, "prod.example.com");
    pki.write("allow", "prod.example.com *\n");
    let mut environment = pki.mtls();
    environment.push(("ALLOW_FILE", pki.path("allow")));
    let server = greeter(&environment).await;
    let status = hello(&server, as_client(&pki, "desk")).await;
    let status = status.expect_err("a URI");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");

    // The host names of the same certificate.
    pki.write("allow", "localhost *\n");
    let server = greeter(&environment).await;
    let reply = hello(&server, as_client(&pki, "desk")).await;
    reply.expect("a host name");
}

#[tokio::test]
async fn new_rules_are_used_without_a_restart_and_bad_ones_are_told_and_not_used() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    pki.write("allow", "other.example.com *\n");
    let mut environment = pki.mtls();
    environment.push(("ALLOW_FILE", pki.path("allow")));
    let server = greeter(&environment).await;
    let client = channel(&server, as_client(&pki, "client"));
    hello_on(&client).await.expect_err("not allowed");
    // With the mark that some editors put first.
    pki.write("allow", "\u{feff}localhost *\n");
    within(async { while hello_on(&client).await.is_err() {} }).await;

    pki.write("allow", "localhost *\nsecret-name\n");
    let (status, text) = readiness(&server, |text| text != "serving").await;
    assert_eq!(status, 200, "it serves");
    assert!(
        text.contains("rules not reloaded, previous in use: ALLOW_FILE="),
        "{text}"
    );
    assert!(text.contains("line 2"), "{text}");
    assert!(!text.contains("secret-name"), "{text}");
    hello_on(&client).await.expect("the old rules");
    let (_, metrics) = get(server.admin, "/metrics").await;
    let gauge = r#"file_problem{what="rules"} 1"#;
    assert!(metrics.contains(gauge), "{metrics}");
}

/// A certificate of the first version. Its key is nowhere.
const VERSION_ONE: &str = "-----BEGIN CERTIFICATE-----
MIIBIzCBywIUERuiQ1C8+lrB9Ty6lHHgmP/2lEIwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODEyMzkyOFoYDzIxMjYxMTA0MTIzOTI4
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASdwhfvY7l9+uKwTon1QSdsSTcy4vtKbRLHgfkTIO9e7ce6qHTqbBDrD6WN9Prb
z8XQjzQBugYGA3bXGRl3iL9IMAoGCCqGSM49BAMCA0cAMEQCID5B77eo9DZQnxEi
4AZeh/foB+4Uw8grsbIvWnImjdBjAiB9V4sZICdjOozUMIZCeepjQn65we90vTKP
E5nAcbCzZQ==
-----END CERTIFICATE-----
";

#[tokio::test]
async fn a_certificate_of_version_one_is_called_what_it_is() {
    let pki = Pki::new();
    pki.write("one.pem", VERSION_ONE);
    let cert = pki.path("one.pem");
    let environment = [
        ("TLS_CERT", cert.clone()),
        ("TLS_KEY", pki.path("server.key")),
    ];
    let error = bind(echo::APP, &[], &environment).await.err();
    let error = error.expect("refused").to_string();
    let problem = "X.509 v1 certificate; v3 is needed";
    assert_eq!(error, format!("TLS_CERT={cert}: {problem}"));
}

#[tokio::test]
async fn a_probe_without_a_certificate_reaches_health_in_every_mode() {
    let pki = Pki::new();
    for environment in [vec![], pki.tls(), pki.mtls()] {
        let server = greeter(&environment).await;
        let mut health = HealthClient::new(harness::channel(server.admin));
        health
            .check(HealthCheckRequest::default())
            .await
            .expect("a status");
    }
}

#[tokio::test]
async fn a_bad_file_stops_the_start_and_is_named() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|file| pki.path(file));
    let no_pem = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (files, problem) in [
        (
            ["/no/such/file", &key, &ca],
            "TLS_CERT=/no/such/file: ".to_owned(),
        ),
        (
            [no_pem, &key, &ca],
            format!("TLS_CERT={no_pem}: no certificate in this file"),
        ),
        (
            [&cert, "/no/such/file", &ca],
            "TLS_KEY=/no/such/file: ".to_owned(),
        ),
        ([&cert, &cert, &ca], format!("TLS_KEY={cert}: ")),
        (
            [&cert, &pki.path("client.key"), &ca],
            format!("TLS_CERT={cert}, TLS_KEY="),
        ),
        (
            [&cert, &key, "/no/such/file"],
            "TLS_CLIENT_CA=/no/such/file: ".to_owned(),
        ),
        (
            [&cert, &key, &key],
            format!("TLS_CLIENT_CA={key}: no certificate in this file"),
        ),
    ] {
        let environment: Vec<_> = ["TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"]
            .into_iter()
            .zip(files)
            .collect();
        let error = bind(echo::APP, &[], &environment)
            .await
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.starts_with(&problem),
            "{error} should begin with {problem}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
