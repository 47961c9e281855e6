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

use crate::{
    settings::config::{Config, LogFormat},
    telemetry::{
        json::{JsonFields, JsonLines, steers},
        writer::LogQueue,
    },
};

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
    let lines = tracing_subscriber::fmt::layer();
    let lines = match config.log_format() {
        LogFormat::Text => {
            let mut lines = lines.with_writer(|| TextLine(&LINES));
            // Colours are for terminals, and there NO_COLOR turns them off.
            if !io::stdout().is_terminal() {
                lines.set_ansi(false);
            }
            lines.boxed()
        }
        LogFormat::Json => (lines.with_writer(|| &LINES))
            .fmt_fields(JsonFields)
            .event_format(JsonLines)
            .boxed(),
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

/// A line for people, in which nothing steers their terminal but the colours.
struct TextLine<W>(W);

impl<W: Write> Write for TextLine<W> {
    /// Of a whole line each time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        const COLOURS: char = '\u{1b}';
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut shown = String::with_capacity(text.len() + 1);
        for letter in text.chars() {
            match steers(letter) && letter != COLOURS {
                true => shown.extend(letter.escape_default()),
                false => shown.push(letter),
            }
        }
        shown.push('\n');
        self.0.write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Standard output, to which `io::stdout` would write each line by itself.
fn standard_output() -> Box<dyn Write> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(stdout) => Box::new(File::from(stdout)),
        Err(_) => Box::new(io::stdout()),
    }
}
