//! The server binaries as their own health probes. The exit codes are those of grpc_health_probe.

use harness::{Process, command, output, start, start_in};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use rustix::process::Signal;
use tokio::net::TcpListener;

use harness::pki::Pki;

async fn healthcheck(arguments: &[&str]) -> i32 {
    let mut command = command("echo", &["healthcheck"]);
    let outcome = output(command.args(arguments)).await;
    outcome
        .status
        .code()
        .unwrap_or_else(|| panic!("{outcome:?}"))
}

#[tokio::test]
async fn the_exit_code_tells_serving_usage_connection_rpc_and_not_serving_apart() {
    let server = Process::start("echo", &["--lame-duck", "1h"]).await;
    let (addr, admin) = (server.addr.to_string(), server.admin.to_string());
    for addr in [&addr, &format!("http://{addr}"), &admin] {
        assert_eq!(healthcheck(&["--addr", addr]).await, 0);
    }
    assert_eq!(
        healthcheck(&["--addr", &addr, "--service", "grpc.examples.echo.Echo"]).await,
        0
    );
    assert_eq!(healthcheck(&["--adr", &addr]).await, 1);
    assert_eq!(healthcheck(&["--addr", "no address"]).await, 1);
    assert_eq!(
        healthcheck(&["--addr", "https://127.0.0.1:1", "--cacert", "/no/such"]).await,
        1
    );
    assert_eq!(healthcheck(&["--addr", "ftp://127.0.0.1:1"]).await, 1);
    assert_eq!(
        healthcheck(&["--addr", &addr, "--cacert", "/no/such"]).await,
        1
    );
    assert_eq!(healthcheck(&["--addr", "127.0.0.1:1"]).await, 2);
    assert_eq!(
        healthcheck(&["--addr", &addr, "--service", "no.Such"]).await,
        3
    );

    let mut server = server;
    server.signal(Signal::TERM);
    server.log("phase").await; // serving
    server.log("phase").await; // lame duck
    assert_eq!(healthcheck(&["--addr", &addr]).await, 4);
}

#[tokio::test]
async fn without_an_address_it_asks_the_server_of_the_same_environment() {
    let server = start(echo::APP, &[]).await;
    let port = server.admin.port();
    let mut command = command("echo", &["healthcheck"]);
    // An address to listen on is not always one to connect to.
    let outcome = output(command.env("ADMIN_LISTEN_ADDR", format!("0.0.0.0:{port}"))).await;
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
}

#[tokio::test]
async fn it_speaks_tls_and_mtls() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|file| pki.path(file));
    for (environment, with_certificate, without) in [(pki.tls(), 0, 0), (pki.mtls(), 0, 2)] {
        let server = start_in(echo::APP, &[], &environment).await;
        let addr = format!("https://localhost:{}", server.addr.port());
        let trusting = ["--addr", &addr, "--cacert", &ca];
        let showing = ["--cert", &cert, "--key", &key];
        assert_eq!(
            healthcheck(&[trusting, showing].concat()).await,
            with_certificate
        );
        // TLS 1.3 tells a client that its certificate is missing only once it has connected.
        let code = healthcheck(&trusting).await;
        assert!(code == without || without == 2 && code == 3, "{code}");
        assert_eq!(
            healthcheck(&["--addr", &addr, "--cacert", &Pki::new().path("ca.pem")]).await,
            2
        );
    }
}

#[tokio::test]
async fn it_gives_up_on_a_server_that_says_nothing() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = mute.local_addr().expect("bound");
    let brief = ["--connect-timeout", "100ms", "--rpc-timeout", "100ms"];
    for (addr, code) in [
        (format!("http://{addr}"), 3),
        (format!("https://{addr}"), 2),
    ] {
        let pki = Pki::new();
        let trusting = ["--addr", &addr, "--cacert", &pki.path("ca.pem")];
        let flags = if addr.starts_with("https") {
            &trusting[..]
        } else {
            &trusting[..2]
        };
        assert_eq!(healthcheck(&[flags, &brief].concat()).await, code, "{addr}");
    }
}
