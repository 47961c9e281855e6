//! Errors as every service reports them.

use rand::RngExt as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// INVALID_ARGUMENT with a `google.rpc.BadRequest` detail that names `field` by its path in the
/// request message.
pub fn invalid_argument(field: &str, problem: impl AsRef<str>) -> Status {
    let problem = problem.as_ref();
    Status::with_error_details(
        Code::InvalidArgument,
        format!("{field}: {problem}"),
        ErrorDetails::with_bad_request_violation(field, problem),
    )
}

/// UNAVAILABLE, with word to try again after a second or so.
pub fn unavailable(problem: impl Into<String>) -> Status {
    let mut status = Status::unavailable(problem);
    // gRFC A6. Spread, so that those who are refused together do not come back together.
    let pushback = rand::rng().random_range(500..1500_u32);
    (status.metadata_mut()).insert("grpc-retry-pushback-ms", pushback.into());
    status
}

/// What a call is told that the server ends for its own sake; safe to try elsewhere.
pub(crate) fn closing() -> Status {
    Status::unavailable("the server is closing this connection")
}

/// What a call is told that is one too many.
pub(crate) fn overloaded() -> Status {
    unavailable("too many calls at once")
}

/// The name of a code as the gRPC documents write it, such as `DEADLINE_EXCEEDED`.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
