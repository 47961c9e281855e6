//! The notes at each point, from all users. Servers that share a store serve the same notes.

use std::{fmt, sync::Arc};

use chassis::{Error, Runtime, bytes_in, nonzero_period};
use humantime::Duration;

use crate::point::Point;

mod memory;
mod redis;

/// The limits on notes, and where they are stored.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NotesSettings {
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    redis: redis::RedisSettings,
}

/// The limits on notes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "RouteChat's notes")]
pub(crate) struct Limits {
    /// Maximum number of notes remembered at one point; the oldest goes first
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) notes_per_point: u32,

    /// Time after the last note at which a point's notes are forgotten
    #[arg(long, default_value = "1h", value_parser = nonzero_period)]
    pub(crate) notes_expire: Duration,

    /// Maximum size of one note
    #[arg(long, default_value = "1KiB", value_parser = bytes_in::<u32>(0..=1 << 20))]
    pub(crate) note_bytes: u32,

    /// In memory: maximum number of points with notes; the one that has waited longest for a new note goes first
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) note_points: u32,

    /// In memory: approximate size of all notes together
    #[arg(long, default_value = "64MiB", value_parser = bytes_in::<usize>(0..=1 << 40))]
    pub(crate) notes_memory: usize,
}

impl NotesSettings {
    /// Maximum bytes in one note.
    pub(crate) fn note_bytes(&self) -> u32 {
        self.limits.note_bytes
    }

    /// The store that the settings select.
    pub(crate) fn open(self, runtime: &Runtime) -> Result<Arc<dyn NoteStore>, Error> {
        Ok(match self.redis.open(&self.limits, runtime)? {
            Some(notes) => Arc::new(notes),
            None => Arc::new(memory::MemoryStore::new(self.limits)),
        })
    }
}

/// A note within the size limit.
#[derive(Debug)]
pub(crate) struct Note(String);

/// A note over the size limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    bytes: usize,
    limit: u32,
}

impl Note {
    pub(crate) fn new(text: String, limit: u32) -> Result<Self, TooLong> {
        match text.len() {
            bytes if bytes > limit as usize => Err(TooLong { bytes, limit }),
            _ => Ok(Self(text)),
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, limit } = self;
        write!(f, "{bytes} bytes, and at most {limit} are allowed")
    }
}

/// Why the store is unavailable. The note may or may not have been stored.
///
/// The reason is for the log and `/readyz`. Callers do not see it, since the store may name addresses and
/// users in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreUnavailable(Arc<str>);

impl fmt::Display for StoreUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("notes: the store is not available")
    }
}

/// A store of notes, shared by all chats.
#[async_trait::async_trait]
pub(crate) trait NoteStore: Send + Sync {
    /// Appends `note` at `point`; returns the earlier notes, oldest first. This is atomic: no other note comes
    /// in between.
    async fn leave(&self, point: Point, note: Note) -> Result<Vec<Arc<str>>, StoreUnavailable>;
}

#[cfg(test)]
mod tests {
    use super::{Note, TooLong};

    #[test]
    fn a_note_over_the_limit_is_refused() {
        assert!(Note::new("fit".to_owned(), 3).is_ok());
        let refused = Note::new("four".to_owned(), 3).expect_err("too long");
        assert_eq!(refused, TooLong { bytes: 4, limit: 3 });
    }
}
