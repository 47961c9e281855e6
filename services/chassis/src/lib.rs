//! What every service of the suite does the same way: settings, logging, identity, listening, TLS,
//! health, reflection, and graceful shutdown. It knows no contract.
//!
//! A service is an [`App`]: a name, a port, and a function that builds its [`Services`] from its own
//! settings. Its whole `main` is [`main`]; tests drive [`App::parse`] and [`Server`] instead. What a service
//! can do beyond answering calls:
//!
//! | To … | use |
//! |---|---|
//! | start asynchronously, count, name what it needs, run background work | [`Runtime`] |
//! | put an interceptor before one service | [`Services::add_service`] |
//! | put a tower layer around all of them | [`Services::layer`] |
//! | know who calls, and until when | [`CallContext`] |
//! | call another service on behalf of a call | [`CallContext::propagate`] |
//!
//! The folders are layers, and each imports only those below it:
//!
//! 1. `process`: command line, signals, exit code
//! 2. `server`: listeners, worker threads, drain
//! 3. `connection`: TLS, HTTP/2, what a peer may do to it
//! 4. `call`: one call from its request to the end of its response
//! 5. `services`: what is served, and what a service gets
//! 6. `telemetry`: log lines and metrics
//! 7. `state`: phases, dependencies, files that change
//! 8. `wire`: gRPC without a connection
//! 9. `settings`: what is set from outside

mod call;
mod connection;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod process;
mod server;
mod services;
mod settings;
mod state;
mod telemetry;
mod wire;

pub use pem;
pub use process::{app::App, command_line::Invocation, main, probe::Probe};
pub use prometheus_client;
pub use server::Server;
pub use services::{
    MAX_REQUEST_BYTES, Services, context::CallContext, handler::Handler, health,
    producer::produced, request_body::RequestBody, runtime::Runtime,
};
pub use settings::{
    Error, VERSION,
    config::{Config, LogFormat},
    limits::Limits,
    listen_addr::ListenAddr,
    values::{bytes_in, nonzero_period},
};
pub use state::dependency::Dependency;
pub use telemetry::{
    logging::{Logging, start_logging},
    metrics::ServiceMetrics,
    trace_context::TraceId,
};
pub use wire::{
    certificate::CertificateName,
    status::{invalid_argument, unavailable},
};
