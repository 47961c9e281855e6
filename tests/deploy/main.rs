//! What the files of the repository say, checked against each other and against the binaries.

mod layout;
mod manifests;
mod settings_table;
