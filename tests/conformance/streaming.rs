//! A client stream in the middle.

use echo::pb::{EchoRequest, EchoResponse, echo_client::EchoClient};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, transport::Channel};

/// A ClientStreamingEcho that the server is known to be in the middle of, with two requests sent.
pub(crate) async fn streaming(
    client: &EchoClient<Channel>,
) -> (
    mpsc::Sender<EchoRequest>,
    JoinHandle<Result<Response<EchoResponse>, Status>>,
) {
    let (requests, sent) = mpsc::channel(1);
    let mut caller = client.clone();
    let response = tokio::spawn(async move {
        caller
            .client_streaming_echo(ReceiverStream::new(sent))
            .await
    });
    for _ in 0..2 {
        let sent = requests.send(echo::request("one of many"));
        sent.await.expect("an open stream");
    }
    // A later stream of the connection has been answered, so the server knows of this one.
    let later = client.clone().unary_echo(echo::request("later")).await;
    later.expect("a response");
    (requests, response)
}
