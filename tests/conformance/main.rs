//! What the chassis and the channel promise, one module for each kind of promise.

mod access_log;
mod admin;
mod age;
mod auth;
mod cancel;
mod channel;
mod config;
mod floods;
mod frames;
mod health;
mod healthcheck;
mod http2;
mod identity;
mod legal;
mod limits;
mod metrics;
mod mismatch;
mod secrets;
mod semantics;
mod shutdown;
mod skeleton;
mod streaming;
mod tls;

use proptest::{prelude::ProptestConfig, test_runner::FileFailurePersistence};

/// How properties are tried. What fails is kept beside the test: proptest's own place for a `main.rs`
/// is a folder above it, which here is the top of the repository.
fn properties() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}
