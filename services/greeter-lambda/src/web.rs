//! gRPC-Web over complete requests and responses: gRPC messages unchanged, then the status in its own frame.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>
//!
//! tonic-web is not used: it turns invalid base64 into INTERNAL, by aborting the request, and refuses native
//! gRPC without an explanation.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE},
};
use http_body_util::Full;
use lambda_http::{Body, Request, RequestExt as _};
use tonic::Status;

/// The encoding of bodies. A response has the encoding of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Binary,
    /// Base64.
    Text,
}

impl Encoding {
    /// None if the request is not gRPC-Web.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/grpc-web" | "application/grpc-web+proto" => Some(Self::Binary),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => Some(Self::Text),
            _ => None,
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        })
    }

    /// Converts an event into a gRPC request.
    pub(crate) fn request(
        self,
        server: SocketAddr,
        event: Request,
    ) -> Result<http::Request<Full<Bytes>>, Status> {
        // As the client sent it: the URI of the event would begin with the stage of the API.
        let uri = format!("http://{server}{}", event.raw_http_path());
        let (head, body) = event.into_parts();
        let body = match body {
            Body::Text(text) => Bytes::from(text),
            Body::Binary(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        let body = match self {
            Self::Binary => body,
            Self::Text => unarmoured(&body)?,
        };
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = head.method;
        *request.uri_mut() =
            (uri.parse()).map_err(|error| Status::invalid_argument(format!("{uri}: {error}")))?;
        *request.headers_mut() = head.headers;
        let headers = request.headers_mut();
        // They describe the request as the client sent it.
        for name in [CONTENT_LENGTH, HOST] {
            headers.remove(name);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Ok(request)
    }

    /// The response to an event. The status is always in the body, even where gRPC has it in the headers:
    /// a page of another origin sees only the headers that CORS exposes.
    pub(crate) fn response(
        self,
        response: Response<Bytes>,
        mut trailers: HeaderMap,
    ) -> Response<Full<Bytes>> {
        let (mut head, messages) = response.into_parts();
        for name in [
            Status::GRPC_STATUS,
            Status::GRPC_MESSAGE,
            Status::GRPC_STATUS_DETAILS,
        ] {
            trailers.extend(head.headers.remove(&name).map(|value| (name, value)));
        }
        head.headers.insert(CONTENT_TYPE, self.content_type());

        let mut body = BytesMut::from(messages);
        put_trailers(&mut body, &trailers);
        let body = match self {
            Self::Binary => body.freeze(),
            Self::Text => Bytes::from(STANDARD.encode(body)),
        };
        Response::from_parts(head, Full::new(body))
    }
}

/// Decodes base64, which may be a concatenation of several pieces, each with its padding.
fn unarmoured(text: &[u8]) -> Result<Bytes, Status> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.chunks(4) {
        (STANDARD.decode_vec(four, &mut bytes)).map_err(|error| {
            Status::invalid_argument(format!("the body is not base64: {error}"))
        })?;
    }
    Ok(bytes.into())
}

/// A trailer frame: like that of a message with another flag, it contains lines of `name:value`.
fn put_trailers(body: &mut BytesMut, trailers: &HeaderMap) {
    const TRAILERS: u8 = 0x80;
    let lines: Vec<_> = trailers
        .iter()
        .map(|(name, value)| [name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat())
        .collect();
    let lines = lines.concat();
    body.put_u8(TRAILERS);
    body.put_u32(lines.len().try_into().unwrap_or(u32::MAX));
    body.extend_from_slice(&lines);
}

/// Refuses a request that is not gRPC-Web. The headers say so to gRPC clients, the body to other clients.
pub(crate) fn refuse() -> Response<Full<Bytes>> {
    const WHY: &str = "a Lambda function speaks gRPC-Web only, content-type application/grpc-web+proto \
         or application/grpc-web-text+proto: native gRPC ends a call with HTTP trailers, and the event \
         that a function answers with has none. For native gRPC call the server itself.";
    let mut response = Status::unimplemented(WHY).into_http();
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response.map(|()| Full::new(Bytes::from_static(WHY.as_bytes())))
}
