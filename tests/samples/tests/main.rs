//! What the samples promise: the services, their clients, and the files that they read.

mod alb;
mod clients;
mod features;
mod greeter;
mod lambda;
mod notes;
mod reflection;
mod route_guide;
mod wire;
