//! Log lines, on standard output.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
    sync::{
        atomic::Ordering::Relaxed,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{Config, LogFormat, log_line::JsonLines, log_queue::LogQueue};

static LINES: LogQueue = LogQueue::new();

/// How many lines have been lost because nobody read the earlier ones.
pub(crate) fn dropped_lines() -> usize {
    LINES.lost.load(Relaxed)
}

/// Keeps the log going. What is still to be written is written when it is dropped, if somebody reads it.
pub struct Logging {
    /// Nothing is ever sent: it ends with the thread that writes.
    written: Receiver<()>,
}

impl Drop for Logging {
    fn drop(&mut self) {
        const LONGEST: Duration = Duration::from_secs(2);
        LINES.end();
        let _ = self.written.recv_timeout(LONGEST);
    }
}

/// Starts logging for the whole process; to be called once.
///
/// A thread of its own writes, and lines are dropped when it cannot keep up: a log collector that
/// stops reading must not stop the calls.
///
/// `RUST_LOG` is read as tracing-subscriber's `Targets`, not as its `EnvFilter`: levels by target, no
/// span or field filters, and no regular expression engine in the binary.
pub fn start_logging(config: &Config) -> Logging {
    let mut lines = tracing_subscriber::fmt::layer().with_writer(|| &LINES);
    // Colours are for terminals, and there NO_COLOR turns them off.
    if !io::stdout().is_terminal() {
        lines.set_ansi(false);
    }
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.event_format(JsonLines).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(config.rust_log.clone())
        .init();
    let (writing, written) = mpsc::channel();
    thread::spawn(move || {
        LINES.write_to(standard_output());
        drop(writing);
    });
    Logging { written }
}

/// Standard output, to which `io::stdout` would write each line by itself.
fn standard_output() -> Box<dyn Write> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(stdout) => Box::new(File::from(stdout)),
        Err(_) => Box::new(io::stdout()),
    }
}
