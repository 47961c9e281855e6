//! gRPC's interop cases, played by our client against our server. Clients and servers that we did not
//! write play them in the second tier.

use harness::{Process, command, output};

/// The lines that the client printed, and its exit code.
async fn play(server: &Process, arguments: &[&str]) -> (Vec<String>, Option<i32>) {
    let addr = format!("http://{}", server.addr);
    let arguments = [&["--addr", &addr], arguments].concat();
    let outcome = output(&mut command("interop-client", &arguments)).await;
    let lines = String::from_utf8(outcome.stdout).expect("text");
    (
        lines.lines().map(str::to_owned).collect(),
        outcome.status.code(),
    )
}

#[tokio::test]
async fn every_interop_case_goes_well_with_our_client_and_our_server() {
    let server = Process::start("interop-server", &[]).await;
    // A debug build has no business with the times of the soaks.
    let fewer = [
        "--concurrency",
        "250",
        "--iterations",
        "10",
        "--longest-call",
        "10s",
    ];
    let (lines, code) = play(&server, &fewer).await;
    assert_eq!(lines.len(), 21, "{lines:?}");
    for line in &lines {
        assert!(line.ends_with(" ok"), "{line}");
    }
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn a_case_that_fails_says_why_and_the_others_are_played() {
    let server = Process::start("echo", &[]).await;
    let (lines, code) = play(&server, &["empty_unary", "unimplemented_service"]).await;
    let [failed, well] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(failed.starts_with("empty_unary failed: "), "{failed}");
    assert!(
        failed.contains("no service at /grpc.testing.TestService"),
        "{failed}"
    );
    assert_eq!(well, "unimplemented_service ok");
    assert_eq!(code, Some(1));
}
