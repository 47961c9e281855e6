//! Replies that are made ahead of the connection, in a task of their own.

use std::panic::resume_unwind;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// The replies that `produce` sends, at most `ahead` of them before the connection takes them.
///
/// Prefer a stream that the connection pulls, as the services here do. Where replies have to be made
/// ahead, use this and not a spawned task behind a `ReceiverStream`: there a task that panics closes
/// its channel, and the client takes what has come for all there is. Here the panic goes on in the
/// call, which ends with INTERNAL. The task is aborted when the call ends before it.
pub fn produced<T, F>(
    ahead: usize,
    produce: impl FnOnce(mpsc::Sender<T>) -> F,
) -> impl Stream<Item = Result<T, Status>> + Send
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, mut replies) = mpsc::channel(ahead);
    let task = AbortOnDropHandle::new(tokio::spawn(produce(sender)));
    async_stream::try_stream! {
        while let Some(reply) = replies.recv().await {
            yield reply;
        }
        match task.await {
            Ok(ended) => ended?,
            Err(failed) => resume_unwind(failed.into_panic()),
        }
    }
}
