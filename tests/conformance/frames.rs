//! Frames that no client library sends, and the reaction to each that HTTP/2 and gRPC require.

use std::{collections::BTreeSet, net::SocketAddr};

use futures_util::{StreamExt as _, stream};
use harness::{
    PREFACE, Running,
    cases::{Case, H2_DIFFERS, cases, play, stalls},
    frames, get, start, within,
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::{Handle, Runtime},
};

/// Short, for `stalls`.
const FLAGS: &[&str] = &[
    "--handshake-timeout=500ms",
    "--stall-timeout=300ms",
    "--unary-timeout=1s",
    "--stream-idle-timeout=1s",
];

#[tokio::test]
async fn every_frame_has_the_reaction_that_http2_and_grpc_require() {
    const AT_ONCE: usize = 8;

    // For all else: a busy machine may send for longer than the one for stalls waits for a reply to be taken.
    let patient = start(echo::APP, &[]).await;
    let server = start(echo::APP, FLAGS).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let at = |addr| move |case| (addr, case);
    let mut all: Vec<(SocketAddr, Case)> = cases().into_iter().map(at(patient.addr)).collect();
    assert!(all.len() >= 100, "{} cases", all.len());
    all.extend(stalls().into_iter().map(at(server.addr)));
    let names: BTreeSet<&str> = all.iter().map(|(_, case)| case.name).collect();
    assert_eq!(names.len(), all.len(), "a name twice");
    for (_, what_h2_does, names) in H2_DIFFERS {
        for name in *names {
            let case = all.iter_mut().find(|(_, case)| case.name == *name);
            case.expect(name).1.reaction = *what_h2_does;
        }
    }
    let failed: Vec<String> = stream::iter(&all)
        .map(async |(addr, case)| {
            let played = play(*addr, case).await;
            played.map_err(|error| format!("{case}: {error}"))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|played| async { played.err() })
        .collect()
        .await;
    assert!(
        failed.is_empty(),
        "{} of {}:\n{}",
        failed.len(),
        all.len(),
        failed.join("\n")
    );
    for server in [&patient, &server] {
        within(nothing_is_left(server, tasks)).await;
    }
}

/// Waits until the server holds nothing any more for those who have gone.
async fn nothing_is_left(server: &Running, tasks: usize) {
    loop {
        let (_, metrics) = get(server.admin, "/metrics").await;
        assert!(
            metrics.contains("grpc_server_panics_total 0\n"),
            "{metrics}"
        );
        let counts = ["grpc_server_in_flight 0\n", "grpc_server_connections 0\n"];
        let none = counts.iter().all(|count| metrics.contains(count));
        if none && Handle::current().metrics().num_alive_tasks() <= tasks {
            return;
        }
    }
}

/// A frame that is whole, if not right; of a few streams, so that they meet.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let good_head = frames::field(":method", "POST")
        .into_iter()
        .chain(frames::field(":scheme", "http"))
        .chain(frames::field(
            ":path",
            "/grpc.examples.echo.Echo/BidirectionalStreamingEcho",
        ))
        .chain(frames::field("content-type", "application/grpc"))
        .collect::<Vec<_>>();
    let payload = prop_oneof![
        Just(good_head),
        Just(frames::message(0, b"\x0a\x05tonic")),
        prop::collection::vec(any::<u8>(), 0..24),
    ];
    let flags = prop_oneof![Just(4), Just(5), any::<u8>()];
    (0..12_u8, flags, 0..9_u32, payload)
        .prop_map(|(kind, flags, stream, payload)| frames::frame(kind, flags, stream, &payload))
}

#[test]
fn any_frames_leave_nothing_behind() {
    // As many frames as other properties have cases: some 32 to each of these. The macro would have
    // PROPTEST_CASES win over this.
    let config = ProptestConfig {
        cases: crate::properties().cases / 32,
        source_file: Some(file!()),
        ..crate::properties()
    };
    let connections = prop::collection::vec(prop::collection::vec(any_frame(), 1..32), 1..4);
    let played = TestRunner::new(config).run(&connections, |connections| {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(hear_out(&connections));
        Ok(())
    });
    played.expect("nothing left behind");
}

/// Has a server of its own hear the frames of each connection to their end.
async fn hear_out(connections: &[Vec<Vec<u8>>]) {
    let server = start(echo::APP, &[]).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    for frames in connections {
        let mut peer = TcpStream::connect(server.addr).await.expect("queued");
        // The server may have heard enough before the end.
        let _ = peer.write_all(&[PREFACE, &frames.concat()].concat()).await;
        let _ = peer.shutdown().await;
        let _ = within(peer.read_to_end(&mut Vec::new())).await;
    }
    within(nothing_is_left(&server, tasks)).await;
}
