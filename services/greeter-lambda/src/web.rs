//! gRPC-Web, of whole requests and responses: gRPC's messages as they are, and the status behind them in
//! a frame of its own. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>
//!
//! tonic-web is not used: it makes an INTERNAL of base64 that is none, by breaking the request off, and
//! refuses native gRPC without a word.

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

/// How bodies are written. Responses are written as their requests are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Binary,
    /// In base64.
    Text,
}

impl Encoding {
    /// None if the request is not of gRPC-Web.
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

    /// The call that an event asks for, as gRPC.
    pub(crate) fn request(
        self,
        server: SocketAddr,
        event: Request,
    ) -> Result<http::Request<Full<Bytes>>, Status> {
        // As the client wrote it: the other one has the stage of an API before it.
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
        // Of the request that the client sent.
        for name in [CONTENT_LENGTH, HOST] {
            headers.remove(name);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Ok(request)
    }

    /// The response to an event. The status always stands in the body, also where gRPC has it in the
    /// head: a page of another origin sees no header that CORS does not name.
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

/// Reads base64, of which a client may have put several pieces together, each with its padding.
fn unarmoured(text: &[u8]) -> Result<Bytes, Status> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.chunks(4) {
        (STANDARD.decode_vec(four, &mut bytes)).map_err(|error| {
            Status::invalid_argument(format!("the body is not base64: {error}"))
        })?;
    }
    Ok(bytes.into())
}

/// A frame like that of a message, with another flag: lines of `name:value`.
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

/// Refuses what is not gRPC-Web: in the head to clients of gRPC, in the body to those who only read.
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
