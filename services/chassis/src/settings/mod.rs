//! What is set from outside.

pub(crate) mod config;
pub(crate) mod limits;
pub(crate) mod listen_addr;
pub(crate) mod values;

/// Anything that stops a start. Its text is one line and names the setting or the file at fault.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The version of the suite.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
