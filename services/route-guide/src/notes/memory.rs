//! Notes in the memory of this process, within its limits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use lru::LruCache;

use super::{Limits, Note, NoteStore, StoreUnavailable};
use crate::point::Point;

/// The notes, and their limits.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    limits: Limits,
    board: Mutex<Board>,
}

/// The points in the order of their last note, and the memory that they use.
#[derive(Debug)]
struct Board {
    points: LruCache<Point, Left>,
    bytes: usize,
}

/// The notes at a point.
#[derive(Debug)]
struct Left {
    notes: VecDeque<Arc<str>>,
    last: Instant,
}

impl MemoryStore {
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
}

#[async_trait::async_trait]
impl NoteStore for MemoryStore {
    async fn leave(&self, point: Point, note: Note) -> Result<Vec<Arc<str>>, StoreUnavailable> {
        // A poisoned lock is still consistent: no code that holds it can panic.
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(board.leave(point, note.0.into(), Instant::now(), &self.limits))
    }
}

impl Board {
    /// Memory of a point and of a note besides the text, including allocator overhead and spare capacity.
    const POINT_BYTES: usize = 256;
    const NOTE_BYTES: usize = 64;

    fn leave(
        &mut self,
        point: Point,
        note: Arc<str>,
        now: Instant,
        limits: &Limits,
    ) -> Vec<Arc<str>> {
        self.forget_expired(point, now, limits);
        let known = self.points.contains(&point);
        self.bytes += Self::cost(&note) + if known { 0 } else { Self::POINT_BYTES };
        let left = self.points.get_or_insert_mut(point, || Left {
            notes: VecDeque::new(),
            last: now,
        });
        let earlier = left.notes.iter().cloned().collect();
        left.notes.push_back(note);
        left.last = now;
        if left.notes.len() > limits.notes_per_point as usize {
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

    /// Removes expired notes at `point` and at two other points. That is faster than points are added, and few
    /// enough not to delay a note.
    fn forget_expired(&mut self, point: Point, now: Instant, limits: &Limits) {
        let expired = |left: &Left| now.duration_since(left.last) >= *limits.notes_expire;
        if self.points.peek(&point).is_some_and(expired) {
            self.forget(point);
        }
        for _ in 0..2 {
            match self.points.peek_lru() {
                Some((&longest_waiting, left)) if expired(left) => self.forget(longest_waiting),
                _ => break,
            }
        }
    }

    fn forget(&mut self, point: Point) {
        if let Some(left) = self.points.pop(&point) {
            let notes: usize = left.notes.iter().map(|note| Self::cost(note)).sum();
            self.bytes -= Self::POINT_BYTES + notes;
        }
    }

    /// Drops the oldest note at `point`, and the point with its last one.
    fn drop_oldest_at(&mut self, point: Point) {
        let Some(left) = self.points.peek_mut(&point) else {
            return;
        };
        self.bytes -= left.notes.pop_front().map_or(0, |note| Self::cost(&note));
        if left.notes.is_empty() {
            self.forget(point);
        }
    }

    fn cost(note: &str) -> usize {
        Self::NOTE_BYTES + note.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Limits, MemoryStore};
    use crate::point::Point;

    fn roomy() -> Limits {
        Limits {
            notes_per_point: 100,
            notes_expire: Duration::from_secs(60).into(),
            note_bytes: 100,
            note_points: 100,
            notes_memory: usize::MAX,
        }
    }

    fn leave_at(notes: &MemoryStore, now: Instant, latitude: i32, note: &str) -> Vec<String> {
        let point = Point::new(latitude, 0).expect("on the globe");
        let mut board = notes.board.lock().expect("sound");
        let earlier = board.leave(point, note.into(), now, &notes.limits);
        earlier.iter().map(|note| note.to_string()).collect()
    }

    fn leave(notes: &MemoryStore, latitude: i32, note: &str) -> Vec<String> {
        leave_at(notes, Instant::now(), latitude, note)
    }

    #[test]
    fn a_note_brings_back_the_earlier_ones_at_its_point_and_not_itself() {
        let notes = MemoryStore::new(roomy());
        assert!(leave(&notes, 0, "first").is_empty());
        assert!(leave(&notes, 1, "elsewhere").is_empty());
        assert_eq!(leave(&notes, 0, "second"), ["first"]);
        assert_eq!(leave(&notes, 0, "third"), ["first", "second"]);
    }

    #[test]
    fn the_oldest_note_at_a_point_is_forgotten_first() {
        let notes = MemoryStore::new(Limits {
            notes_per_point: 2,
            ..roomy()
        });
        for note in ["a", "b", "c"] {
            leave(&notes, 0, note);
        }
        assert_eq!(leave(&notes, 0, "d"), ["b", "c"]);
    }

    #[test]
    fn the_point_that_waited_longest_is_forgotten_first() {
        let notes = MemoryStore::new(Limits {
            note_points: 2,
            ..roomy()
        });
        leave(&notes, 0, "a");
        leave(&notes, 1, "b");
        leave(&notes, 0, "c");
        leave(&notes, 2, "d");
        assert_eq!(leave(&notes, 0, "e"), ["a", "c"]);
        assert!(leave(&notes, 1, "f").is_empty());
    }

    #[test]
    fn notes_expire_with_the_last_one_at_their_point() {
        let notes = MemoryStore::new(roomy());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        leave_at(&notes, at(0), 0, "a");
        leave_at(&notes, at(0), 1, "b");
        leave_at(&notes, at(59), 0, "c");
        assert_eq!(leave_at(&notes, at(118), 0, "d"), ["a", "c"]);
        assert!(leave_at(&notes, at(178), 0, "e").is_empty());
        let board = notes.board.lock().expect("sound");
        assert_eq!(board.points.len(), 1, "the other is forgotten unasked");
        assert_eq!(board.bytes, 256 + 64 + 1);
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let notes = MemoryStore::new(Limits {
            notes_memory: 10_000,
            ..roomy()
        });
        for latitude in 0..10_000 {
            leave(&notes, latitude % 97, &"x".repeat(latitude as usize % 100));
        }
        let board = notes.board.lock().expect("sound");
        assert!(board.bytes <= 10_000, "{} bytes", board.bytes);
        let counted: usize = (board.points.iter())
            .map(|(_, left)| 256 + left.notes.iter().map(|note| 64 + note.len()).sum::<usize>())
            .sum();
        assert_eq!(board.bytes, counted);
    }
}
