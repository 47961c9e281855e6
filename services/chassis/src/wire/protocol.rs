//! What the head of a request must be for it to be a gRPC call.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tonic::{Status, body::Body};

/// Why a request is not taken: a status, and what is said to those who know only HTTP.
pub(crate) struct Refusal {
    status: Status,
    http: StatusCode,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let http = StatusCode::OK;
        Self { status, http }
    }
}

impl Refusal {
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = self.status.into_http();
        *response.status_mut() = self.http;
        if self.http == StatusCode::METHOD_NOT_ALLOWED {
            (response.headers_mut()).insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// Checks that a request is one of gRPC.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) fn check(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if method != Method::POST {
        return Err(Refusal {
            status: Status::internal(format!("method {:.20}: expected POST", method.as_str())),
            http: StatusCode::METHOD_NOT_ALLOWED,
        });
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !content_type.is_some_and(is_grpc) {
        let found = String::from_utf8_lossy(content_type.unwrap_or_default());
        return Err(Refusal {
            status: Status::invalid_argument(format!(
                "content-type \"{found:.100}\": expected application/grpc"
            )),
            http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        });
    }
    Ok(())
}

/// Whether messages are protobuf, as everything here is; gRPC-Web, for one, begins with the same
/// letters.
fn is_grpc(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::is_grpc;

    #[test]
    fn only_protobuf_over_grpc_is_taken() {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "Application/GRPC ; x",
        ] {
            assert!(is_grpc(content_type.as_bytes()), "{content_type}");
        }
        for content_type in [
            "",
            ";",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcproto",
            "text/application/grpc",
        ] {
            assert!(!is_grpc(content_type.as_bytes()), "{content_type}");
        }
    }
}
