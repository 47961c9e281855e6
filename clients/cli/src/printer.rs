//! What is printed, and where.

use std::io::{self, IsTerminal as _, Write};

use anstyle::Style;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tonic::metadata::MetadataMap;

/// `text` with its control characters escaped: what a server sends must not steer a terminal.
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

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: every message in words, with headings.
    Text,
    /// For programs: every message as one JSON object on a line of its own, and nothing else.
    Json,
}

/// Prints messages to one place and all else to another.
pub struct Printer<'a> {
    format: Format,
    data: &'a mut dyn Write,
    rest: &'a mut dyn Write,
    progress: ProgressBar,
    served_by: String,
}

impl<'a> Printer<'a> {
    /// Prints messages to `data`, and to `rest` what is not data.
    pub fn new(format: Format, data: &'a mut dyn Write, rest: &'a mut dyn Write) -> Self {
        // Where the messages themselves are on the terminal, they are the progress.
        let progress = if io::stdout().is_terminal() {
            ProgressBar::hidden()
        } else {
            // Draws on standard error, and only if that is a terminal.
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

    /// Begins a part of the output.
    pub fn heading(&mut self, title: &str) -> io::Result<()> {
        let bold = Style::new().bold();
        self.say(&format!(
            "{bold}-------------- {title} --------------{bold:#}"
        ))
    }

    /// Says what is being done; a program does not want to know.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.data, "{line}"),
            Format::Json => Ok(()),
        }
    }

    /// Prints a message that was received: `words` for people, its fields for programs.
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

    /// Says who answered, from the metadata of a response, when it is not who answered last.
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
