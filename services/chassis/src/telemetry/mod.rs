//! What a process says of itself: log lines and metrics.

pub(crate) mod json;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod throttle;
pub(crate) mod trace_context;
pub(crate) mod writer;
