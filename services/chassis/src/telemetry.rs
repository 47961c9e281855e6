//! Log lines, on standard output.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{Config, LogFormat};

/// Starts logging for the whole process; to be called once.
///
/// `RUST_LOG` is read as tracing-subscriber's `Targets`, not as its `EnvFilter`: levels by target, no
/// span or field filters, and no regular expression engine in the binary.
pub fn start_logging(config: &Config) {
    let mut lines = tracing_subscriber::fmt::layer();
    // Colours are for terminals, and there NO_COLOR turns them off.
    if !io::stdout().is_terminal() {
        lines.set_ansi(false);
    }
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(config.rust_log.clone())
        .init();
}
