//! What the parts of a process tell each other: its phase, what it depends on, files that change.

pub(crate) mod dependency;
pub(crate) mod lifecycle;
pub(crate) mod reloaded_files;
