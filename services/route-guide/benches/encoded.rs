//! What it costs to send what is encoded already: `cargo bench -p route-guide`.
//!
//! The module is included as it stands, because the way into it is private.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "of an included module, not all is used, nor are its tests"
)]

use std::sync::Arc;

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use tonic::body::Body;

#[path = "../src/encoded.rs"]
mod encoded;
#[path = "../src/feature_id.rs"]
mod feature_id;

use encoded::{Encoded, in_place};
use feature_id::FeatureId;

fn main() {
    divan::main();
}

const MESSAGES: u32 = 100_000;

/// Messages of 55 bytes, as those of ListFeatures are.
fn messages() -> Arc<Encoded<String>> {
    let mut builder = Encoded::builder(0);
    for _ in 0..MESSAGES {
        builder.push(&"x".repeat(53)).expect("room");
    }
    Arc::new(builder.build())
}

/// Takes a reply apart as a connection does, and gives its bytes.
fn send(
    messages: &Arc<Encoded<String>>,
    which: impl Iterator<Item = u32> + Send + 'static,
) -> usize {
    let (_, _, extensions) = messages.stream(which.map(FeatureId)).into_parts();
    let mut response = http::Response::new(Body::empty());
    *response.extensions_mut() = extensions;
    let mut body = in_place(response).into_body();
    let mut sent = 0;
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        sent += frame.data_ref().map_or(0, |data| data.len());
    }
    sent
}

/// All of them, which stand side by side and are not copied.
#[divan::bench]
fn neighbours(bencher: Bencher<'_, '_>) {
    let messages = messages();
    let bencher = bencher
        .counter(ItemsCount::new(MESSAGES))
        .counter(BytesCount::new(60 * MESSAGES));
    bencher.bench_local(|| send(&messages, 0..MESSAGES));
}

/// As many, here and there, which are gathered.
#[divan::bench]
fn scattered(bencher: Bencher<'_, '_>) {
    let messages = messages();
    let bencher = bencher
        .counter(ItemsCount::new(MESSAGES))
        .counter(BytesCount::new(60 * MESSAGES));
    bencher.bench_local(|| {
        send(
            &messages,
            (0..MESSAGES).map(|number| number * 7919 % MESSAGES),
        )
    });
}

/// Ten, which is what a small area holds.
#[divan::bench]
fn ten(bencher: Bencher<'_, '_>) {
    let messages = messages();
    bencher.bench_local(|| send(&messages, (0..10).map(|number| number * 7919)));
}
