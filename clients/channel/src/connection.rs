//! One connection to one server.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    Request, Response, Uri,
    header::{HeaderValue, USER_AGENT},
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    sync::oneshot,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::io::InspectReader;
use tonic::{Status, body::Body};

use crate::{
    net::{TcpStream, set_options},
    tls::Tls,
};

/// How far a server may be ahead of the reader of one stream, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;

/// As much as HTTP/2 allows: what may be unread is bounded by the windows of the streams.
///
/// h2 charges each unread DATA frame of less than 256 bytes for what is missing to that, and ends the
/// connection (GOAWAY, `too_many_data_frames`) when this comes to half of the connection's window. Servers
/// such as grpc-go send each message in a frame of its own, of five bytes at least, so that there must be
/// streams × stream window ÷ 5 × 251 ≤ connection window ÷ 2.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Sends calls on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    requests: http2::SendRequest<Body>,
    scheme: Scheme,
    authority: Authority,
}

/// Resolves when a connection takes no more calls; those that it has go on. While it has some, it hears
/// of GOAWAY only by the next call, which comes back unsent.
pub(crate) type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How to connect.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) scheme: Scheme,
    /// What to send as `:authority` and to expect in certificates, if not the server's own name.
    pub(crate) authority: Option<Authority>,
    /// For `https`.
    pub(crate) tls: Option<Tls>,
    /// How long it may take until the server has said something in HTTP/2.
    pub(crate) timeout: Duration,
}

/// The source of a status of those who were connected to a server that then said nothing in HTTP/2.
#[derive(Debug)]
pub struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a word of HTTP/2")
    }
}

impl Error for Silent {}

impl Connector {
    /// Connects to the server at `address`, `HOST:PORT`, which is known by `name`. The error says the
    /// address and what is wrong.
    pub(crate) async fn connect(
        &self,
        address: &str,
        name: &Authority,
    ) -> Result<(Sender, Closing), Status> {
        let authority = self.authority.as_ref().unwrap_or(name);
        let problem = |why: &dyn fmt::Display| Status::unavailable(format!("{address}: {why}"));
        let reached = AtomicBool::new(false);
        let connected = timeout(self.timeout, async {
            let stream = TcpStream::connect(address).await?;
            set_options(&stream)?;
            match &self.tls {
                None => {
                    reached.store(true, Ordering::Relaxed);
                    self.converse(stream, authority).await
                }
                Some(tls) => {
                    let host = authority.host().trim_matches(['[', ']']);
                    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                    let connector = TlsConnector::from(tls.config());
                    let stream = connector.connect(name, stream).await?;
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        return Err(io::Error::other("TLS without HTTP/2"));
                    }
                    reached.store(true, Ordering::Relaxed);
                    self.converse(stream, authority).await
                }
            }
        });
        match connected.await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(problem(&error)),
            Err(_) => {
                let mut late = problem(&format_args!("not connected within {:?}", self.timeout));
                if reached.into_inner() {
                    late.set_source(Arc::new(Silent));
                }
                Err(late)
            }
        }
    }

    /// Begins HTTP/2, and waits until the server has said something: behind a balancer of connections
    /// there may be nobody, and then a call would be lost that can go elsewhere.
    async fn converse<S>(&self, stream: S, authority: &Authority) -> io::Result<(Sender, Closing)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (first_frame, heard) = oneshot::channel();
        let mut first_frame = Some(first_frame);
        let stream = InspectReader::new(stream, move |bytes| {
            if !bytes.is_empty()
                && let Some(first_frame) = first_frame.take()
            {
                let _ = first_frame.send(());
            }
        });
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut closing: Closing = Box::pin(async {
            // However it ends: calls on it know for themselves.
            let _ = connection.await;
        });
        let silent = || io::Error::other("closed before a word of HTTP/2");
        select! {
            biased;
            () = &mut closing => return Err(silent()),
            heard = heard => heard.map_err(|_| silent())?,
        }
        let sender = Sender {
            requests,
            scheme: self.scheme.clone(),
            authority: authority.clone(),
        };
        Ok((sender, closing))
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) delivery: Delivery,
}

/// How far a call has come that has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It has not been sent.
    NotSent,
    /// The server has certainly not begun with it.
    NotProcessed,
    /// The server may have begun with it.
    MaybeProcessed,
}

impl Sender {
    /// Whether it takes no more calls.
    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Sends a request whose URI is its path, and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        const AGENT: HeaderValue =
            HeaderValue::from_static(concat!("grpc-rust-suite/", env!("CARGO_PKG_VERSION")));
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(request.uri().path());
        *request.uri_mut() = uri.build().map_err(|error| Failure {
            status: Status::internal(error.to_string()),
            delivery: Delivery::MaybeProcessed,
        })?;
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        (self.requests.try_send_request(request).await).map_err(|error| Failure {
            delivery: match error.message() {
                Some(_) => Delivery::NotSent,
                None if is_unprocessed(error.error()) => Delivery::NotProcessed,
                None => Delivery::MaybeProcessed,
            },
            status: lost(error.into_error()),
        })
    }
}

/// Whether the request has not been begun with: it could not be sent, the server refused it
/// (REFUSED_STREAM), or it is beyond the last that the server named in its GOAWAY (RFC 9113, 6.8 and
/// 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    // A connection that closes while a request waits for its turn drops it.
    error.is_canceled() || error.is_user() || {
        let error = cause(error);
        error.is_some_and(|error| {
            error.is_remote()
                && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        })
    }
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The status of a call whose connection or stream broke: as the gRPC documents map the code of
/// RST_STREAM, and UNAVAILABLE if it was not that.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors>
pub(crate) fn lost(error: hyper::Error) -> Status {
    if cause(&error).is_some_and(h2::Error::is_reset) {
        return Status::from_error(Box::new(error));
    }
    let text = cause(&error).map_or_else(|| error.to_string(), ToString::to_string);
    let mut status = Status::unavailable(format!("the connection is lost: {text}"));
    status.set_source(Arc::new(error));
    status
}

#[cfg(test)]
mod tests {
    use super::{CONNECTION_WINDOW, STREAM_WINDOW};

    #[test]
    fn as_many_streams_as_our_servers_allow_may_be_full_of_small_messages() {
        const STREAMS: u64 = 200;
        let charged = STREAMS * u64::from(STREAM_WINDOW) / 5 * 251;
        assert!(charged <= u64::from(CONNECTION_WINDOW) / 2, "{charged}");
    }
}
