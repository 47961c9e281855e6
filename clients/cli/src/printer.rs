//! Output of the clients.

use std::io::{self, IsTerminal as _, Write};

use anstyle::Style;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tonic::metadata::MetadataMap;

/// `text` with its control characters escaped: a server must not control the terminal.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            printable.extend(letter.escape_default());
        } else {
            printable.push(letter);
        }
    }
    printable
}

/// The format of printed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: every message in words, with headings.
    Text,
    /// For programs: every message as one JSON object on a line of its own, and nothing else.
    Json,
}

/// Prints messages to one writer and everything else to another.
pub struct Printer<'a> {
    format: Format,
    data: &'a mut dyn Write,
    rest: &'a mut dyn Write,
    progress: ProgressBar,
    served_by: String,
}

impl<'a> Printer<'a> {
    /// Prints messages to `data`, and everything else to `rest`.
    pub fn new(format: Format, data: &'a mut dyn Write, rest: &'a mut dyn Write) -> Self {
        // If the messages are printed on the terminal, they show the progress.
        let progress = if io::stdout().is_terminal() {
            ProgressBar::hidden()
        } else {
            // Draws on standard error, if that is a terminal.
            let style = ProgressStyle::with_template("{spinner} {pos} messages, {per_sec}");
            ProgressBar::no_length()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        };
        Self {
            format,
            data,
            rest,
            progress,
            served_by: String::new(),
        }
    }

    /// Starts a section of the output.
    pub fn heading(&mut self, title: &str) -> io::Result<()> {
        let bold = Style::new().bold();
        self.say(&format!(
            "{bold}-------------- {title} --------------{bold:#}"
        ))
    }

    /// Prints a line of text; JSON output omits it.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.data, "{line}"),
            Format::Json => Ok(()),
        }
    }

    /// Prints a received message: `words` in text output, its fields in JSON output.
    pub fn message(&mut self, message: &impl Serialize, words: &str) -> io::Result<()> {
        self.progress.inc(1);
        match self.format {
            Format::Text => writeln!(self.data, "{words}"),
            Format::Json => {
                serde_json::to_writer(&mut self.data, message)?;
                writeln!(self.data)
            }
        }
    }

    /// Prints the replica named in a response's metadata, if it differs from the previous one.
    pub fn served_by(&mut self, metadata: &MetadataMap) -> io::Result<()> {
        let header = |name| metadata.get(name).and_then(|value| value.to_str().ok());
        let Some(by) = header("x-served-by") else {
            return Ok(());
        };
        let mut served_by = format!("Served by {by}");
        for (what, name) in [("version", "x-served-version"), ("zone", "x-served-zone")] {
            if let Some(value) = header(name) {
                served_by += &format!(", {what} {value}");
            }
        }
        if self.served_by != served_by {
            writeln!(self.rest, "{served_by}")?;
            self.served_by = served_by;
        }
        Ok(())
    }
}

impl Drop for Printer<'_> {
    fn drop(&mut self) {
        self.progress.finish_and_clear();
    }
}
