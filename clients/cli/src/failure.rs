//! The errors of a client, and their exit codes.

use std::{error::Error, fmt, io, iter};

use tonic::{Code, Status};

use crate::printable;

/// The error with which a client ends.
#[derive(Debug)]
pub enum Failure {
    /// The command line is invalid.
    Usage(String),
    /// A call failed.
    Rpc(Status),
    /// The output cannot be written, or the process cannot be set up.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            // As in grpcurl; a gRPC code is at most 16.
            Self::Rpc(status) => 64 + status.code() as u8,
            Self::Output(_) => 1,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Rpc(status)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problem) => f.write_str(problem),
            Self::Output(error) => write!(f, "{error}"),
            Self::Rpc(status) => {
                write!(
                    f,
                    "{}: {}",
                    code_name(status.code()),
                    printable(status.message())
                )?;
                // A status from the transport is unspecific; its root cause is more useful.
                match causes(status).last().map(ToString::to_string) {
                    Some(cause) if cause != status.message() => write!(f, ": {cause}"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The causes of `error`, from the nearest to the root cause.
fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// The name of a code as the gRPC documents write it: `DeadlineExceeded` is `DEADLINE_EXCEEDED`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::Failure;

    #[test]
    fn exit_codes_are_64_plus_the_grpc_code() {
        for (code, exit_code, name) in [
            (Code::InvalidArgument, 67, "INVALID_ARGUMENT: no"),
            (Code::DeadlineExceeded, 68, "DEADLINE_EXCEEDED: no"),
            (Code::Unauthenticated, 80, "UNAUTHENTICATED: no"),
        ] {
            let failure = Failure::from(Status::new(code, "no"));
            assert_eq!(failure.exit_code(), exit_code);
            assert_eq!(failure.to_string(), name);
        }
    }
}
