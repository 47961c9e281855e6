//! The suite from outside, one module for each thing it promises.

mod access_log;
mod admin;
mod age;
mod alb;
mod auth;
mod cancel;
mod channel;
mod clients;
mod config;
mod features;
mod floods;
mod frames;
mod greeter;
mod health;
mod healthcheck;
mod http2;
mod identity;
mod interop;
mod lambda;
mod layout;
mod legal;
mod limits;
mod manifests;
mod notes;
mod pki;
mod reflection;
mod route_guide;
mod scripted;
mod secrets;
mod semantics;
mod settings_table;
mod shutdown;
mod skeleton;
mod tls;
mod wire;

use proptest::{prelude::ProptestConfig, test_runner::FileFailurePersistence};

/// How properties are tried. What fails is kept beside the test: proptest's own place for a `main.rs`
/// is a folder above it, which here is the top of the repository.
fn properties() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}
