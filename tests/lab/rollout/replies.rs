//! What an answer is worth beside the one that was due.

/// How an answer that ended in OK compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the one that was due.
    Whole,
    /// Some of it is missing, and the rest in order.
    Truncated,
    /// Some of it came more often than it should.
    Duplicated,
    /// Something else.
    Wrong,
}

/// Judges a stream of replies.
pub(crate) fn judge<T: PartialEq>(due: &[T], found: &[T]) -> Verdict {
    let count = |list: &[T], reply: &T| list.iter().filter(|other| *other == reply).count();
    let mut rest = due.iter();
    if found == due {
        Verdict::Whole
    } else if !found.iter().all(|reply| due.contains(reply)) {
        Verdict::Wrong
    } else if (found.iter()).any(|reply| count(found, reply) > count(due, reply)) {
        Verdict::Duplicated
    } else if (found.iter()).all(|reply| rest.any(|other| other == reply)) {
        Verdict::Truncated
    } else {
        Verdict::Wrong
    }
}

/// Judges how many messages of a request were taken.
pub(crate) fn judge_count(due: usize, found: i32) -> Verdict {
    match usize::try_from(found).map(|found| found.cmp(&due)) {
        Err(_) => Verdict::Wrong,
        Ok(std::cmp::Ordering::Equal) => Verdict::Whole,
        Ok(std::cmp::Ordering::Less) => Verdict::Truncated,
        Ok(std::cmp::Ordering::Greater) => Verdict::Duplicated,
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge, judge_count};

    #[test]
    fn a_forged_stream_is_seen() {
        let due = ["a", "b", "a", "c"];
        for (found, verdict) in [
            (["a", "b", "a", "c"].as_slice(), Verdict::Whole),
            (&["a", "b", "a"], Verdict::Truncated),
            (&["b", "a", "c"], Verdict::Truncated),
            (&["a", "b", "c"], Verdict::Truncated),
            (&[], Verdict::Truncated),
            (&["a", "b", "a", "c", "c"], Verdict::Duplicated),
            (&["a", "b", "b", "a", "c"], Verdict::Duplicated),
            (&["b", "b"], Verdict::Duplicated),
            (&["a", "b", "c", "a"], Verdict::Wrong),
            (&["a", "b", "a", "d"], Verdict::Wrong),
            (&["a", "b", "a", "c", "d"], Verdict::Wrong),
        ] {
            assert_eq!(judge(&due, found), verdict, "{found:?}");
        }
    }

    #[test]
    fn a_forged_count_is_seen() {
        assert_eq!(judge_count(3, 3), Verdict::Whole);
        assert_eq!(judge_count(3, 2), Verdict::Truncated);
        assert_eq!(judge_count(3, 6), Verdict::Duplicated);
        assert_eq!(judge_count(3, -1), Verdict::Wrong);
    }
}
