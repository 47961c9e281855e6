//! Log lines on their way to whoever reads them, at nobody's expense.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// Takes lines from any thread without ever waiting, for one thread to write many at once.
///
/// Bytes in one buffer, where a channel of lines would take memory anew for each, on one thread, and give
/// it back on another.
pub(crate) struct LogQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// How many lines were dropped because too much was waiting.
    pub(crate) lost: AtomicUsize,
}

struct Waiting {
    lines: Vec<u8>,
    /// There will be no more.
    ended: bool,
}

impl LogQueue {
    /// A few thousand lines, in bytes.
    const MOST: usize = 4 * 1024 * 1024;

    /// How long the writer leaves lines to gather after it has written, for otherwise it would take the
    /// core from the calls after each.
    const PAUSE: Duration = Duration::from_millis(5);

    pub(crate) const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: Vec::new(),
                ended: false,
            }),
            changed: Condvar::new(),
            lost: AtomicUsize::new(0),
        }
    }

    /// Writes what comes until [`end`](Self::end). What cannot be written is gone: there is nobody to
    /// tell.
    pub(crate) fn write_to(&self, mut out: impl Write) {
        const KEPT: usize = 64 * 1024;
        let mut taken = Vec::new();
        loop {
            let mut waiting = self.waiting();
            while waiting.lines.is_empty() {
                if waiting.ended {
                    return;
                }
                waiting = (self.changed.wait(waiting)).unwrap_or_else(PoisonError::into_inner);
            }
            mem::swap(&mut waiting.lines, &mut taken);
            drop(waiting);
            let _: io::Result<()> = out.write_all(&taken);
            taken.clear();
            taken.shrink_to(KEPT);
            thread::sleep(Self::PAUSE);
        }
    }

    /// Has the writer leave once it has written what there is.
    pub(crate) fn end(&self) {
        self.waiting().ended = true;
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a whole line each time.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.waiting();
        let first = waiting.lines.is_empty();
        if waiting.lines.len() + line.len() <= LogQueue::MOST {
            waiting.lines.extend_from_slice(line);
        } else {
            self.lost.fetch_add(1, Relaxed);
        }
        drop(waiting);
        if first {
            self.changed.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::atomic::Ordering::Relaxed, thread::scope};

    use super::LogQueue;

    #[test]
    fn lines_of_all_threads_come_out_whole() {
        let queue = LogQueue::new();
        let mut out = Vec::new();
        scope(|threads| {
            let writer = threads.spawn(|| queue.write_to(&mut out));
            let writers: Vec<_> = (0..4)
                .map(|_| threads.spawn(|| (0..1000).for_each(|i| say(&queue, &format!("{i}\n")))))
                .collect();
            for each in writers {
                each.join().expect("no panic");
            }
            queue.end();
            writer.join().expect("no panic");
        });
        let out = String::from_utf8(out).expect("text");
        let mut lines: Vec<usize> = out
            .lines()
            .map(|line| line.parse().expect("whole"))
            .collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..4000).map(|i| i / 4).collect::<Vec<_>>());
    }

    #[test]
    fn too_much_is_counted_and_not_kept() {
        let queue = LogQueue::new();
        let line = "x".repeat(LogQueue::MOST / 4);
        for _ in 0..6 {
            say(&queue, &line);
        }
        assert_eq!(queue.lost.load(Relaxed), 2);
        queue.end();
        let mut out = Vec::new();
        queue.write_to(&mut out);
        assert_eq!(out.len(), LogQueue::MOST);
    }

    fn say(mut queue: &LogQueue, line: &str) {
        queue.write_all(line.as_bytes()).expect("never fails");
    }
}
