//! What is set from outside.

pub(crate) mod config;
pub(crate) mod limits;
