//! Clients: one that counts how well it is served, and one that keeps no deadline itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime,
    time::sleep,
};

/// A client that greets every millisecond, on a thread of its own so that the tool's other work is
/// not taken for the server's.
pub(crate) struct GoodClient {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Served>,
}

/// How it was served.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) calls: Vec<(Instant, Duration)>,
    pub(crate) errors: usize,
}

impl GoodClient {
    pub(crate) fn start(addr: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(greet(addr, &stopped))
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Served {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("a client that does not panic")
    }
}

async fn greet(addr: SocketAddr, stopped: &AtomicBool) -> Served {
    let mut client = GreeterClient::new(harness::channel(addr));
    let mut served = Served::default();
    while !stopped.load(Relaxed) {
        let began = Instant::now();
        let mut request = tonic::Request::new(HelloRequest {
            name: "good".into(),
        });
        request.set_timeout(Duration::from_secs(5));
        match client.say_hello(request).await {
            Ok(_) => served.calls.push((began, began.elapsed())),
            Err(_) => served.errors += 1,
        }
        sleep(Duration::from_millis(1)).await;
    }
    served
}

/// An HTTP/2 client that says of gRPC what it is told to say, and waits for ever.
#[derive(Clone)]
pub(crate) struct Bare {
    addr: SocketAddr,
    sender: SendRequest<Bytes>,
}

/// A call whose request goes on.
pub(crate) struct Call {
    pub(crate) answer: ResponseFuture,
    pub(crate) request: SendStream<Bytes>,
}

impl Bare {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr)
            .await
            .expect("a server that listens");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream, addr).await.expect("HTTP/2")
    }

    /// On a connection that is there.
    pub(crate) async fn over<S>(stream: S, addr: SocketAddr) -> Result<Self, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { addr, sender })
    }

    pub(crate) async fn call(
        &mut self,
        path: &str,
        timeout: Option<&str>,
    ) -> Result<Call, h2::Error> {
        let mut call = http::Request::post(format!("http://{}{path}", self.addr))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            call = call.header("grpc-timeout", timeout);
        }
        self.sender = self.sender.clone().ready().await?;
        let call = call.body(()).expect("a request");
        let (answer, request) = self.sender.send_request(call, false)?;
        Ok(Call { answer, request })
    }

    /// Makes a unary call from beginning to end.
    pub(crate) async fn unary(&mut self, path: &str) -> Result<String, h2::Error> {
        let mut call = self.call(path, None).await?;
        call.request.send_data(Bytes::from_static(&[0; 5]), true)?;
        code(call.answer).await
    }
}

/// The `grpc-status` that an answer ends with.
pub(crate) async fn code(answer: ResponseFuture) -> Result<String, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let mut status = head.headers.get("grpc-status").cloned();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    if let Some(trailers) = body.trailers().await? {
        status = trailers.get("grpc-status").cloned().or(status);
    }
    let status = status.as_ref().and_then(|status| status.to_str().ok());
    Ok(status.unwrap_or("no status").to_owned())
}
