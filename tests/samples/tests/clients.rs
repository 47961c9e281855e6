//! The clients as people and scripts use them: output, exit codes, flags.

use std::process::{Output, Stdio};

use harness::{Process, command, output, start, start_in, within};
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use harness::pki::Pki;

async fn run(client: &str, arguments: &[&str]) -> Output {
    output(&mut command(client, arguments)).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What it printed, if it ended well.
fn printed(outcome: &Output) -> String {
    assert!(outcome.status.success(), "{outcome:?}");
    text(&outcome.stdout)
}

/// Asserts that it printed no data, exited with this code, and said this.
fn assert_fails(outcome: &Output, code: i32, said: &str) {
    assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
    assert_eq!(text(&outcome.stdout), "");
    assert!(text(&outcome.stderr).contains(said), "{outcome:?}");
}

#[tokio::test]
async fn the_tour_prints_the_exchange_under_the_headings_of_the_public_client() {
    let server = start(route_guide::APP, &[]).await;
    let outcome = run("route-guide-client", &["--addr", &server.url()]).await;
    let lines = printed(&outcome);
    let headings: Vec<_> = lines
        .lines()
        .filter(|line| line.starts_with("------"))
        .collect();
    let expected = ["GetFeature", "ListFeatures", "RecordRoute", "RouteChat"]
        .map(|name| format!("-------------- {name} --------------"));
    assert_eq!(headings, expected);
    assert_eq!(lines.matches("Feature called ").count(), 101);
    assert_eq!(lines.matches("Visiting point ").count(), 10);
    for line in [
        "Feature called 'Berkshire Valley Management Area Trail, Jefferson, NJ, USA' at latitude: 409146138, longitude: -746188906",
        "Found no feature at latitude: 0, longitude: 0",
        "Looking for features between 40, -75 and 42, -73",
        "Finished trip with 10 points",
        "Passed 10 features",
        "Received First message at latitude: 0, longitude: 0",
        "Received Third message at latitude: 1, longitude: 0",
    ] {
        assert!(
            lines.lines().any(|found| found == line),
            "{line} in\n{lines}"
        );
    }
    assert!(
        text(&outcome.stderr).starts_with("Served by "),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn json_is_one_object_a_line_and_nothing_else() {
    let server = start(route_guide::APP, &[]).await;
    let addr = ["-o", "json", "--addr", &server.url()].map(str::to_owned);
    let ask = async |arguments: &[&str]| {
        let addr: Vec<_> = addr.iter().map(String::as_str).collect();
        let lines = printed(&run("route-guide-client", &[arguments, &addr].concat()).await);
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        lines.collect::<Vec<Value>>()
    };
    let location = json!({"latitude": 1, "longitude": -2});
    assert_eq!(
        ask(&["get-feature", "1,-2"]).await,
        [json!({"name": "", "location": location})]
    );
    let everywhere = [
        "list-features",
        "-900000000,-1800000000",
        "900000000,1800000000",
    ];
    assert_eq!(ask(&everywhere).await.len(), 100);
    let summary = json!({"pointCount": 1, "featureCount": 0, "distance": 0, "elapsedTime": 0});
    assert_eq!(ask(&["record-route", "1,-2"]).await, [summary]);
    let notes = ["route-chat", "1,-2,a", "1,-2,b"];
    assert_eq!(
        ask(&notes).await,
        [json!({"location": location, "message": "a"})]
    );
    // GetFeature twice, every feature, a summary, two notes.
    assert_eq!(ask(&["tour"]).await.len(), 2 + 100 + 1 + 2);
}

#[tokio::test]
async fn the_greeter_client_calls_every_method() {
    let server = start(greeter::APP, &[]).await;
    let url = server.url();
    let ask = async |arguments: &[&str]| {
        printed(&run("greeter-client", &[arguments, &["--addr", &url]].concat()).await)
    };
    assert_eq!(ask(&["hello", "Ada"]).await, "Hello Ada\n");
    assert_eq!(ask(&["stream", "Ada"]).await.lines().count(), 5);
    assert_eq!(
        ask(&["chat", "Ada", "Grace"]).await,
        "Hello Ada\nHello Grace\n"
    );
}

#[tokio::test]
async fn a_stream_can_be_fed_from_standard_input() {
    let server = start(route_guide::APP, &[]).await;
    let input = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&input, b"0,0,a\nnonsense\n\xff\n0,0,b\n").expect("written");
    let mut command = command(
        "route-guide-client",
        &["route-chat", "--addr", &server.url()],
    );
    let outcome = output(command.stdin(input.reopen().expect("the file"))).await;
    assert_eq!(
        printed(&outcome),
        "Received a at latitude: 0, longitude: 0\n"
    );
    assert!(
        text(&outcome.stderr).contains("\"nonsense\" is left out"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_chat_that_is_cut_goes_on_with_what_is_left() {
    let age = [
        "--max-connection-age",
        "1s",
        "--max-connection-age-grace",
        "100ms",
    ];
    let server = start(route_guide::APP, &age).await;
    let chat = ["route-chat", "--addr", &server.url()];
    let mut command = command("route-guide-client", &chat);
    (command.stdin(Stdio::piped()).stdout(Stdio::piped())).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a client that starts");
    let mut notes = child.stdin.take().expect("piped");
    let said = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = said.lines();

    notes.write_all(b"0,0,a\n").await.expect("sent");
    let cut = within(async {
        loop {
            let line = said.next_line().await.expect("readable").expect("a line");
            if line.starts_with("the stream was cut") {
                return line;
            }
        }
    });
    let cut = cut.await;
    assert!(cut.contains("UNAVAILABLE: the server is closing"), "{cut}");
    notes.write_all(b"0,0,b\n").await.expect("sent");
    drop(notes);
    let outcome = within(child.wait_with_output()).await.expect("an end");
    assert_eq!(
        printed(&outcome),
        "Received a at latitude: 0, longitude: 0\n"
    );
}

#[tokio::test]
async fn the_exit_code_of_a_failed_call_is_64_plus_the_grpc_code() {
    let server = start(greeter::APP, &[]).await;
    let outcome = run("greeter-client", &["hello", "", "--addr", &server.url()]).await;
    assert_fails(
        &outcome,
        64 + 3,
        "error: INVALID_ARGUMENT: name: must not be empty",
    );
    let outcome = run(
        "route-guide-client",
        &["get-feature", "0,0", "--addr", &server.url()],
    )
    .await;
    assert_fails(
        &outcome,
        64 + 12,
        "error: UNIMPLEMENTED: no service at /routeguide.RouteGuide",
    );
    let outcome = run("greeter-client", &["hello", "--addr", "http://127.0.0.1:1"]).await;
    assert_fails(
        &outcome,
        64 + 14,
        "error: UNAVAILABLE: 127.0.0.1:1: Connection refused",
    );
    // What never began has not been cut.
    let outcome = run(
        "greeter-client",
        &["chat", "Ada", "--addr", "http://127.0.0.1:1"],
    )
    .await;
    assert_fails(&outcome, 64 + 14, "Connection refused");
    assert!(!text(&outcome.stderr).contains("cut"), "{outcome:?}");
}

#[tokio::test]
async fn a_deadline_that_passes_is_deadline_exceeded_on_every_kind_of_call() {
    // Accepts connections, and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = format!("http://{}", mute.local_addr().expect("bound"));
    for method in ["hello", "stream", "chat"] {
        let outcome = run(
            "greeter-client",
            &[method, "Ada", "--addr", &addr, "--max-time", "0.1"],
        )
        .await;
        assert_fails(&outcome, 64 + 4, "error: DEADLINE_EXCEEDED: ");
    }
    // Connecting has a limit of its own.
    let addr = addr.replace("http", "https");
    let flags = ["--insecure", "--connect-timeout", "0.1"];
    let outcome = run(
        "greeter-client",
        &[&["hello", "--addr", &addr], flags.as_slice()].concat(),
    )
    .await;
    assert_fails(&outcome, 64 + 14, "error: UNAVAILABLE: ");
    // A stream that has begun is bounded, too.
    let server = start(greeter::APP, &[]).await;
    let mut command = command(
        "greeter-client",
        &["chat", "--addr", &server.url(), "--max-time", "100ms"],
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a client that starts");
    let _open = child.stdin.take();
    let outcome = within(child.wait_with_output()).await.expect("an end");
    assert_fails(&outcome, 64 + 4, "error: DEADLINE_EXCEEDED: ");
}

#[tokio::test]
async fn what_a_server_sends_cannot_steer_the_terminal() {
    let server = start(route_guide::APP, &[]).await;
    let notes = ["0,0,\u{1b}[2J\nReceived forged", "0,0,b"];
    let url = server.url();
    let chat = [&["route-chat", "--addr", &url], notes.as_slice()].concat();
    let lines = printed(&run("route-guide-client", &chat).await);
    assert_eq!(
        lines,
        "Received \\u{1b}[2J\\nReceived forged at latitude: 0, longitude: 0\n"
    );
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2() {
    for arguments in [
        ["get-feature", "north"].as_slice(),
        &["get-feature", "0,0", "--bogus"],
        &["get-feature", "0,0", "--addr", "ftp://x"],
        &["get-feature", "0,0", "--addr", "https://x", "--plaintext"],
        &["get-feature", "0,0", "--addr", "http://x", "--insecure"],
        &[
            "get-feature",
            "0,0",
            "--addr",
            "x",
            "--plaintext",
            "--insecure",
        ],
        &[
            "get-feature",
            "0,0",
            "--addr",
            "x",
            "--cacert",
            "/no/such/file",
        ],
        &["get-feature", "0,0", "--max-time", "soon"],
        &["get-feature", "0,0", "--max-time", "1e12"],
        &["get-feature", "0,0", "-H", "no colon"],
    ] {
        let outcome = run("route-guide-client", arguments).await;
        assert_fails(&outcome, 2, "error");
    }
}

#[tokio::test]
async fn metadata_travels_with_every_call() {
    let mut server = Process::start("greeter", &[]).await;
    let addr = format!("http://{}", server.addr);
    for method in ["hello", "stream", "chat"] {
        let header = ["-H", "x-forwarded-for: 203.0.113.7"];
        let call = [[method, "Ada"].as_slice(), &["--addr", &addr], &header].concat();
        printed(&run("greeter-client", &call).await);
        assert_eq!(server.log("call").await["forwarded_for"], "203.0.113.7");
    }
}

#[tokio::test]
async fn tls_is_asked_for_as_grpcurl_does() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    let environment = pki.mtls();
    let server = start_in(greeter::APP, &[], &environment).await;
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|file| pki.path(file));
    let client = ["--cert", cert.as_str(), "--key", &key];
    let (local, address) = (
        format!("localhost:{}", server.addr.port()),
        server.addr.to_string(),
    );
    let url = format!("https://{local}");
    let other_ca = Pki::new().path("ca.pem");
    for (flags, well) in [
        (["--addr", &url, "--cacert", &ca].as_slice(), true),
        (&["--addr", &local, "--cacert", &ca], true),
        (&["--addr", &address, "--insecure"], true),
        (
            &[
                "--addr",
                &address,
                "--cacert",
                &ca,
                "--authority",
                "localhost",
            ],
            true,
        ),
        (
            &[
                "--addr",
                &address,
                "--cacert",
                &ca,
                "--authority",
                "example.com",
            ],
            false,
        ),
        (&["--addr", &url, "--cacert", &other_ca], false),
        (&["--addr", &url], false),
    ] {
        let outcome = run("greeter-client", &[&["hello"], flags, &client].concat()).await;
        assert_eq!(outcome.status.success(), well, "{flags:?}: {outcome:?}");
    }
    let outcome = run(
        "greeter-client",
        &["hello", "--addr", &url, "--cacert", &ca],
    )
    .await;
    assert!(
        !outcome.status.success(),
        "without a certificate: {outcome:?}"
    );
}

#[tokio::test]
async fn colour_is_for_terminals_and_no_color_is_obeyed() {
    let server = start(route_guide::APP, &[]).await;
    let url = server.url();
    for (variables, coloured) in [
        ([].as_slice(), false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
    ] {
        let mut command = command("route-guide-client", &["tour", "--addr", &url]);
        let outcome = output(command.envs(variables.iter().copied())).await;
        assert_eq!(
            printed(&outcome).contains('\u{1b}'),
            coloured,
            "{variables:?}"
        );
    }
}

#[tokio::test]
async fn help_shows_examples() {
    for (client, example) in [
        (
            "route-guide-client",
            "route-guide-client get-feature 409146138,-746188906",
        ),
        ("greeter-client", "greeter-client hello Ada"),
    ] {
        let help = printed(&run(client, &["--help"]).await);
        assert!(help.contains(example), "{help}");
    }
}
