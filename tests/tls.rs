//! TLS and mTLS on the gRPC listener.

use harness::{Running, bind, start_in};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::pki::Pki;

async fn greeter(environment: &[(&str, String)]) -> Running {
    start_in(greeter::APP, &[], environment).await
}

/// Trusts this authority, and no other.
fn trusting(pki: &Pki) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pki.pem("ca.pem")))
}

async fn hello(server: &Running, tls: ClientTlsConfig) -> Result<String, Status> {
    let endpoint = Endpoint::from_shared(format!("https://{}", server.addr)).expect("a URL");
    let channel = endpoint.tls_config(tls).expect("TLS").connect_lazy();
    let request = HelloRequest { name: "TLS".into() };
    Ok(GreeterClient::new(channel)
        .say_hello(request)
        .await?
        .into_inner()
        .message)
}

#[tokio::test]
async fn tls_is_served_to_those_who_trust_the_authority() {
    let pki = Pki::new();
    let server = greeter(&pki.tls()).await;
    assert_eq!(
        hello(&server, trusting(&pki)).await.expect("a reply"),
        "Hello TLS"
    );
    hello(&server, trusting(&Pki::new()))
        .await
        .expect_err("another authority");
    let mut plaintext = GreeterClient::new(server.channel());
    plaintext
        .say_hello(HelloRequest::default())
        .await
        .expect_err("no TLS");
    assert_eq!(
        hello(&server, trusting(&pki)).await.expect("still serving"),
        "Hello TLS"
    );
}

#[tokio::test]
async fn mtls_is_served_only_to_clients_that_the_authority_has_signed() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    let stranger = Pki::new();
    stranger.issue("client", ClientAuth);
    let identity = |pki: &Pki| Identity::from_pem(pki.pem("client.pem"), pki.pem("client.key"));

    let server = greeter(&pki.mtls()).await;
    let known = trusting(&pki).identity(identity(&pki));
    assert_eq!(hello(&server, known).await.expect("a reply"), "Hello TLS");
    hello(&server, trusting(&pki))
        .await
        .expect_err("no certificate");
    hello(&server, trusting(&pki).identity(identity(&stranger)))
        .await
        .expect_err("a stranger");
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
        let error = bind(greeter::APP, &[], &environment)
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
