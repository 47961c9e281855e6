//! A chat that outlives its stream.

use std::{error::Error as _, pin::Pin, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::Mutex, time::sleep};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Response, Status, Streaming};

use crate::{Failure, Printer};

/// What is left of an input.
pub type Rest<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Opens a stream for `input` and prints what comes, in `words`; what has none is left out. When
/// something between the client and the server cuts the stream, or the server shuts down, opens another
/// for what is left of the input.
///
/// What was on its way when the stream was cut may be lost. Gives up after five attempts in a
/// row without a word.
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
        // A first stream that cannot be opened has not been cut.
        if !begun || silent == MOST_SILENT || !is_cut(&cut) {
            return Err(cut.into());
        }
        silent += 1;
        let cut = Failure::from(cut);
        eprintln!("the stream was cut ({cut}); going on with another");
        sleep(PAUSE * silent).await;
    }
}

/// The input from where the last stream left off, once that has let go of it.
fn rest<T: Send + 'static>(input: Arc<Mutex<Rest<T>>>) -> Rest<T> {
    Box::pin(async_stream::stream! {
        let mut input = input.lock().await;
        while let Some(item) = input.next().await {
            yield item;
        }
    })
}

/// Whether a stream has ended for a reason that lies on its way, and not in what was said.
fn is_cut(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}
