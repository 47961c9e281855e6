//! The suite from outside, one module for each thing it promises.

mod access_log;
mod admin;
mod cancel;
mod clients;
mod config;
mod greeter;
mod health;
mod healthcheck;
mod http2;
mod identity;
mod layout;
mod pki;
mod reflection;
mod route_guide;
mod shutdown;
mod tls;
mod wire;
