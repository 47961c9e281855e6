//! A chat that continues on a new stream when one is cut.

use std::{error::Error as _, pin::Pin, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::Mutex, time::sleep};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Response, Status, Streaming};

use crate::{Failure, Printer};

/// The rest of an input.
pub type Rest<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Opens a stream for `input` and prints the replies, formatted by `words`; replies for which that is None
/// are skipped. When a proxy or the network cuts the stream, or the server shuts down, opens another stream
/// for the rest of the input.
///
/// Messages in flight when the stream was cut may be lost. Gives up after five attempts in a row without a
/// reply.
pub async fn chat<T, M>(
    printer: &mut Printer<'_>,
    input: impl Stream<Item = T> + Send + 'static,
    mut open: impl AsyncFnMut(Rest<T>) -> Result<Response<Streaming<M>>, Status>,
    words: impl Fn(&M) -> Option<String>,
) -> Result<(), Failure>
where
    T: Send + 'static,
    M: Serialize,
{
    const MOST_SILENT: u32 = 5;
    const PAUSE: Duration = Duration::from_millis(200);

    let input: Arc<Mutex<Rest<T>>> = Arc::new(Mutex::new(Box::pin(input)));
    let (mut begun, mut silent) = (false, 0);
    loop {
        let cut = match open(rest(input.clone())).await {
            Err(status) => status,
            Ok(response) => {
                printer.served_by(response.metadata())?;
                begun = true;
                let mut messages = response.into_inner();
                loop {
                    match messages.message().await {
                        Ok(None) => return Ok(()),
                        Ok(Some(message)) => {
                            silent = 0;
                            if let Some(words) = words(&message) {
                                printer.message(&message, &words)?;
                            }
                        }
                        Err(status) => break status,
                    }
                }
            }
        };
        // A first stream that cannot be opened is an error, not a cut.
        if !begun || silent == MOST_SILENT || !is_cut(&cut) {
            return Err(cut.into());
        }
        silent += 1;
        let cut = Failure::from(cut);
        eprintln!("the stream was cut ({cut}); going on with another");
        sleep(PAUSE * silent).await;
    }
}

/// The input from where the last stream stopped, once that stream has released it.
fn rest<T: Send + 'static>(input: Arc<Mutex<Rest<T>>>) -> Rest<T> {
    Box::pin(async_stream::stream! {
        let mut input = input.lock().await;
        while let Some(item) = input.next().await {
            yield item;
        }
    })
}

/// Whether a stream has ended because of its transport or server, and not because of its messages.
fn is_cut(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}
