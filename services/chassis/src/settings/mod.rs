//! The settings of the process.

pub(crate) mod config;
pub(crate) mod limits;
pub(crate) mod listen_addr;
pub(crate) mod values;

/// An error that prevents the start. Its text is one line and names the setting or file at fault.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The version of the suite.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
