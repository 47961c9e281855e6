//! The raw-frame suite, against either server.

use futures_util::{StreamExt as _, stream};
use harness::cases::{H2_DIFFERS, cases, play};

use crate::measure::{
    measurement::Measurement,
    server_under_test::{ECHO, ServerUnderTest, Side},
};

pub(crate) async fn frames(side: Side) -> Measurement {
    // Many, because each case that goes wrong waits for what does not come.
    const AT_ONCE: usize = 64;
    let subject = ServerUnderTest::start(side, ECHO).await;
    let cases: Vec<_> = (cases().into_iter())
        .filter(|case| !in_h2(case.name))
        .collect();
    let played = stream::iter(&cases).map(|case| play(subject.addr, case));
    let passed = played
        .buffer_unordered(AT_ONCE)
        .filter(|played| std::future::ready(played.is_ok()))
        .count()
        .await;
    let all = cases.len();
    Measurement::new().goal(passed == all, format!("{passed} of {all}"))
}

/// Whether it is h2, which both are made of, that does otherwise.
fn in_h2(name: &str) -> bool {
    let mut differs = H2_DIFFERS.iter().flat_map(|(_, _, names)| *names);
    differs.any(|differs| *differs == name)
}
