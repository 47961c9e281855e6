//! The messages to send on a stream.

use std::{fmt::Display, io::ErrorKind, str::FromStr};

use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tokio_stream::Stream;

/// The items of the command line or, if there are none, one for each line of standard input as it is
/// typed. An invalid line is reported and skipped.
pub fn input<T>(items: Vec<T>) -> impl Stream<Item = T>
where
    T: FromStr<Err: Display>,
{
    async_stream::stream! {
        if items.is_empty() {
            let mut lines = BufReader::new(stdin()).lines();
            loop {
                match lines.next_line().await {
                    Ok(Some(line)) => match line.parse() {
                        Ok(item) => yield item,
                        Err(error) => eprintln!("{line:?} is left out: {error}"),
                    },
                    Ok(None) => break,
                    Err(error) if error.kind() == ErrorKind::InvalidData => {
                        eprintln!("a line is left out: {error}");
                    }
                    Err(error) => {
                        eprintln!("standard input cannot be read any further: {error}");
                        break;
                    }
                }
            }
        }
        for item in items {
            yield item;
        }
    }
}
