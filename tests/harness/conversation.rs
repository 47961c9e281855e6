//! gRPC by hand, over HTTP/2.

use std::{future::poll_fn, io, net::SocketAddr};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};
use tonic::Code;

use crate::within;

/// As RFC 9113, 6.9.2, has it.
const WINDOW: u32 = 65_535;

/// A connection on which calls are made with nothing that a gRPC client adds: no deadline of its own,
/// no look at what comes.
#[derive(Debug)]
pub struct Conversation {
    addr: SocketAddr,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Conversation {
    /// Connects.
    pub async fn with(addr: SocketAddr) -> Self {
        Self::begin(TcpStream::connect(addr).await, addr, WINDOW).await
    }

    /// Connects from this address of the loopback network.
    pub async fn from(source: [u8; 4], addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("a free port");
        Self::begin(socket.connect(addr).await, addr, WINDOW).await
    }

    /// Connects, and allows for so many bytes of each reply until they are taken.
    pub async fn with_window(addr: SocketAddr, window: u32) -> Self {
        Self::begin(TcpStream::connect(addr).await, addr, window).await
    }

    async fn begin(stream: io::Result<TcpStream>, addr: SocketAddr, window: u32) -> Self {
        let handshake = h2::client::Builder::new()
            .initial_window_size(window)
            // C++ sends each message of a stream as a frame, which h2 takes for an attack on its memory.
            .data_frame_budget(1 << 30)
            .handshake(stream.expect("a server that listens"));
        let (requests, connection) = handshake.await.expect("HTTP/2");
        let connection = tokio::spawn(async {
            // However it ends: the calls know.
            let _ = connection.await;
        });
        Self {
            addr,
            requests,
            connection,
        }
    }

    /// Begins a call, with these headers besides those that every call has.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)]) -> Call {
        let mut head = Request::post(format!("http://{}{path}", self.addr))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        let head = head.body(()).expect("a head");
        let requests = within(self.requests.clone().ready()).await;
        let (answer, request) = requests
            .expect("an open connection")
            .send_request(head, false)
            .expect("sent");
        Call { answer, request }
    }

    /// Waits for GOAWAY: after it no call can begin.
    pub async fn farewell(&self) {
        within(async {
            while self.requests.clone().ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(self) {
        within(self.connection).await.expect("no panic");
    }

    /// Closes the socket without a word.
    pub fn hang_up(self) {
        self.connection.abort();
    }
}

/// A call in progress.
#[derive(Debug)]
pub struct Call {
    answer: ResponseFuture,
    request: SendStream<Bytes>,
}

/// A message with its five bytes in front.
pub fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], &message].concat().into()
}

impl Call {
    /// Sends a message, and more may follow.
    pub fn say(&mut self, message: &impl Message) {
        self.send(framed(message), false);
    }

    /// Sends the last message.
    pub fn say_last(&mut self, message: &impl Message) {
        self.send(framed(message), true);
    }

    /// Sends a message so many times, each in a frame of its own, as fast as its window allows.
    pub async fn say_often(&mut self, message: &impl Message, times: usize) {
        let message = framed(message);
        for _ in 0..times {
            self.request.reserve_capacity(message.len());
            while self.request.capacity() < message.len() {
                let more = within(poll_fn(|cx| self.request.poll_capacity(cx))).await;
                more.expect("an open stream").expect("no reset");
            }
            self.send(message.clone(), false);
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl Into<Bytes>, last: bool) {
        self.request.send_data(bytes.into(), last).expect("sent");
    }

    /// Calls it off.
    pub fn reset(mut self, reason: Reason) {
        self.request.send_reset(reason);
    }

    /// Waits for the head of the answer, and takes nothing of what follows.
    pub async fn head(self) -> (HeaderMap, RecvStream, SendStream<Bytes>) {
        let (head, body) = within(self.answer).await.expect("a head").into_parts();
        (head.headers, body, self.request)
    }

    /// Waits for the end of the answer.
    pub async fn end(self) -> Ending {
        within(async {
            let mut ending = Ending::default();
            match self.answer.await {
                Err(error) => ending.reset = error.reason(),
                Ok(answer) => {
                    let (head, mut body) = answer.into_parts();
                    ending.http = head.status.as_u16();
                    ending.headers = head.headers;
                    ending.read(&mut body).await;
                }
            }
            ending
        })
        .await
    }
}

/// How a call has ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// The HTTP status.
    pub http: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// What came in between, gRPC framing included.
    pub body: Vec<u8>,
    /// The trailers; empty if there are none.
    pub trailers: HeaderMap,
    /// The reason of the reset, if there was one.
    pub reset: Option<Reason>,
}

impl Ending {
    async fn read(&mut self, body: &mut RecvStream) {
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => {
                    self.body.extend_from_slice(&data);
                    let released = body.flow_control().release_capacity(data.len());
                    released.expect("as much as has come");
                }
                Err(error) => return self.reset = error.reason(),
            }
        }
        match body.trailers().await {
            Ok(trailers) => self.trailers = trailers.unwrap_or_default(),
            Err(error) => self.reset = error.reason(),
        }
    }

    /// The `grpc-status`, from wherever it stands.
    pub fn code(&self) -> Option<Code> {
        let status = self.field("grpc-status")?;
        Some(Code::from_bytes(status.as_bytes()))
    }

    /// A field of the trailers, or else of the headers.
    pub fn field(&self, name: &str) -> Option<&str> {
        let value = self.trailers.get(name).or(self.headers.get(name))?;
        value.to_str().ok()
    }
}
