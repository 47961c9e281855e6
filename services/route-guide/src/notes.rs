//! The notes that have been left at each point, as many as memory is set aside for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;

use crate::point::Point;

/// How much is remembered.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Limits {
    /// RouteChat: most notes remembered at one point; the oldest goes first
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) notes_per_point: u32,

    /// RouteChat: most points with notes; the one that has waited longest for a new note goes first
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) note_points: u32,

    /// RouteChat: most bytes in one note
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(..=1_048_576))]
    pub(crate) note_bytes: u32,

    /// RouteChat: bytes of memory for all notes together, about
    #[arg(long, default_value_t = 64 * 1024 * 1024)]
    pub(crate) notes_memory: usize,
}

/// A note that is too long to be remembered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) bytes: usize,
    pub(crate) limit: u32,
}

/// The notes, shared by every chat.
#[derive(Debug)]
pub(crate) struct Notes {
    limits: Limits,
    board: Mutex<Board>,
}

/// The points in the order of their last note, and what they cost.
#[derive(Debug)]
struct Board {
    points: LruCache<Point, VecDeque<Arc<str>>>,
    bytes: usize,
}

impl Notes {
    pub(crate) fn new(limits: Limits) -> Self {
        let board = Board {
            points: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            limits,
            board: Mutex::new(board),
        }
    }

    /// Leaves `note` at `point`; returns the notes that were there, oldest first.
    pub(crate) fn leave(&self, point: Point, note: &str) -> Result<Vec<Arc<str>>, TooLong> {
        let limit = self.limits.note_bytes;
        if note.len() > limit as usize {
            return Err(TooLong {
                bytes: note.len(),
                limit,
            });
        }
        // A panic elsewhere cannot have left the board half changed: nothing here can panic.
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(board.leave(point, note.into(), &self.limits))
    }
}

impl Board {
    /// What a point and a note take besides the text, allocator and spare capacity included.
    const POINT_BYTES: usize = 256;
    const NOTE_BYTES: usize = 64;

    fn leave(&mut self, point: Point, note: Arc<str>, limits: &Limits) -> Vec<Arc<str>> {
        let known = self.points.contains(&point);
        self.bytes += Self::cost(&note) + if known { 0 } else { Self::POINT_BYTES };
        let notes = self.points.get_or_insert_mut(point, VecDeque::new);
        let earlier = notes.iter().cloned().collect();
        notes.push_back(note);
        if notes.len() > limits.notes_per_point as usize {
            self.drop_oldest_at(point);
        }
        while self.points.len() > limits.note_points as usize || self.bytes > limits.notes_memory {
            let Some((&longest_waiting, _)) = self.points.peek_lru() else {
                break;
            };
            self.drop_oldest_at(longest_waiting);
        }
        earlier
    }

    /// Drops the oldest note at `point`, and the point with its last one.
    fn drop_oldest_at(&mut self, point: Point) {
        let Some(notes) = self.points.peek_mut(&point) else {
            return;
        };
        self.bytes -= notes.pop_front().map_or(0, |note| Self::cost(&note));
        if notes.is_empty() {
            self.points.pop(&point);
            self.bytes -= Self::POINT_BYTES;
        }
    }

    fn cost(note: &str) -> usize {
        Self::NOTE_BYTES + note.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Notes, TooLong};
    use crate::point::Point;

    const ROOMY: Limits = Limits {
        notes_per_point: 100,
        note_points: 100,
        note_bytes: 100,
        notes_memory: usize::MAX,
    };

    fn leave(notes: &Notes, latitude: i32, note: &str) -> Vec<String> {
        let point = Point::new(latitude, 0).expect("on the globe");
        let earlier = notes.leave(point, note).expect("short enough");
        earlier.iter().map(|note| note.to_string()).collect()
    }

    #[test]
    fn a_note_brings_back_the_earlier_ones_at_its_point_and_not_itself() {
        let notes = Notes::new(ROOMY);
        assert!(leave(&notes, 0, "first").is_empty());
        assert!(leave(&notes, 1, "elsewhere").is_empty());
        assert_eq!(leave(&notes, 0, "second"), ["first"]);
        assert_eq!(leave(&notes, 0, "third"), ["first", "second"]);
    }

    #[test]
    fn the_oldest_note_at_a_point_is_forgotten_first() {
        let notes = Notes::new(Limits {
            notes_per_point: 2,
            ..ROOMY
        });
        for note in ["a", "b", "c"] {
            leave(&notes, 0, note);
        }
        assert_eq!(leave(&notes, 0, "d"), ["b", "c"]);
    }

    #[test]
    fn the_point_that_waited_longest_is_forgotten_first() {
        let notes = Notes::new(Limits {
            note_points: 2,
            ..ROOMY
        });
        leave(&notes, 0, "a");
        leave(&notes, 1, "b");
        leave(&notes, 0, "c");
        leave(&notes, 2, "d");
        assert_eq!(leave(&notes, 0, "e"), ["a", "c"]);
        assert!(leave(&notes, 1, "f").is_empty());
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let notes = Notes::new(Limits {
            notes_memory: 10_000,
            ..ROOMY
        });
        for latitude in 0..10_000 {
            leave(&notes, latitude % 97, &"x".repeat(latitude as usize % 100));
        }
        let board = notes.board.lock().expect("sound");
        assert!(board.bytes <= 10_000, "{} bytes", board.bytes);
        let counted: usize = (board.points.iter())
            .map(|(_, notes)| 256 + notes.iter().map(|note| 64 + note.len()).sum::<usize>())
            .sum();
        assert_eq!(board.bytes, counted);
    }

    #[test]
    fn a_note_over_the_limit_is_refused_and_not_remembered() {
        let notes = Notes::new(Limits {
            note_bytes: 3,
            ..ROOMY
        });
        let point = Point::new(0, 0).expect("on the globe");
        assert_eq!(
            notes.leave(point, "four"),
            Err(TooLong { bytes: 4, limit: 3 })
        );
        assert!(leave(&notes, 0, "fit").is_empty());
    }
}
