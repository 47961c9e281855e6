//! Frames that no client library sends, and the reaction to each that HTTP/2 and gRPC require.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use harness::{
    cases::{H2_DIFFERS, cases, play, stalls},
    start,
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

    let server = start(greeter::APP, FLAGS).await;
    let mut all = cases();
    assert!(all.len() >= 100, "{} cases", all.len());
    all.extend(stalls());
    let names: BTreeSet<&str> = all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), all.len(), "a name twice");
    for (_, what_h2_does, names) in H2_DIFFERS {
        for name in *names {
            let case = all.iter_mut().find(|case| case.name == *name);
            case.expect(name).reaction = *what_h2_does;
        }
    }
    let failed: Vec<String> = stream::iter(&all)
        .map(async |case| {
            let played = play(server.addr, case).await;
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
}
