//! Log lines, on standard output.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::fd::AsFd as _,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{Config, LogFormat, log_line::JsonLines};

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines have been lost because nobody read the earlier ones.
pub(crate) fn dropped_lines() -> usize {
    LOST.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Keeps the log going. What is still to be written is written when it is dropped, if somebody reads it.
pub struct Logging(Option<WorkerGuard>);

impl Drop for Logging {
    fn drop(&mut self) {
        // The appender's guard waits a second at most, but if its queue is full it prints that, to the
        // very output that nobody reads.
        const LONGEST: Duration = Duration::from_secs(2);
        let guard = self.0.take();
        let (written, wait) = mpsc::channel::<()>();
        thread::spawn(move || {
            drop(guard);
            drop(written);
        });
        // Nothing is ever sent: it ends with the thread, or after this time.
        let _ = wait.recv_timeout(LONGEST);
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
    // A few megabytes of lines.
    const LINES_AHEAD: usize = 10_000;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_AHEAD)
        .finish(many_lines_at_once());
    LOST.get_or_init(|| writer.error_counter());
    let mut lines = tracing_subscriber::fmt::layer().with_writer(writer);
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
    Logging(Some(guard))
}

/// Standard output, to which `io::stdout` would write each line by itself. The appender flushes when it has
/// no more lines.
fn many_lines_at_once() -> Box<dyn Write + Send> {
    const LINES: usize = 64 * 1024;
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(stdout) => Box::new(BufWriter::with_capacity(LINES, File::from(stdout))),
        Err(_) => Box::new(io::stdout()),
    }
}
