//! Whether what clients were told of their notes can be true of what the store holds in the end.
//!
//! Knows neither sockets nor clocks: a history is made of what was sent, heard and found, so one can be
//! forged.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

/// Latitude and longitude.
pub(crate) type Place = (i32, i32);

/// A note that a client sent, no two with the same text, and what the client heard of it.
#[derive(Debug, Clone)]
pub(crate) struct Sent<T> {
    pub(crate) chat: u32,
    pub(crate) place: Place,
    pub(crate) text: String,
    pub(crate) at: T,
    /// When a reply, or the good end of its chat, said that it is kept.
    pub(crate) acknowledged: Option<T>,
    /// The earlier notes that came back for it, as far as they came.
    pub(crate) earlier: Vec<String>,
    /// Whether all of them came.
    pub(crate) heard_out: bool,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// An acknowledged note is there.
    Kept,
    /// No note is there twice, acknowledged or not.
    Once,
    /// Only what was sent to a place is there.
    Known,
    /// A note brings back exactly those before it.
    Earlier,
    /// Notes of a chat stay in their order.
    ChatOrder,
    /// What is sent after a note has been acknowledged comes after it.
    RealTime,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "lost",
            Self::Once => "twice",
            Self::Known => "unknown",
            Self::Earlier => "wrong earlier notes",
            Self::ChatOrder => "out of order in a chat",
            Self::RealTime => "before one acknowledged earlier",
        })
    }
}

/// A broken promise, and the note that shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) promise: Promise,
    pub(crate) text: String,
}

/// Compares what was sent, each chat's notes in the order of their sending, with the final notes at
/// each place, oldest first.
pub(crate) fn check<T: Copy + Ord>(
    sent: &[Sent<T>],
    lists: &BTreeMap<Place, Vec<String>>,
) -> Vec<Breach> {
    let mut by_place: BTreeMap<Place, Vec<&Sent<T>>> = BTreeMap::new();
    for note in sent {
        by_place.entry(note.place).or_default().push(note);
    }
    for place in lists.keys() {
        by_place.entry(*place).or_default();
    }
    let mut breaches = Vec::new();
    for (place, sent) in by_place {
        let list = lists.get(&place).map_or(&[][..], Vec::as_slice);
        check_place(&sent, list, |promise, text| {
            breaches.push(Breach {
                promise,
                text: text.to_owned(),
            });
        });
    }
    breaches
}

fn check_place<T: Copy + Ord>(
    sent: &[&Sent<T>],
    list: &[String],
    mut breach: impl FnMut(Promise, &str),
) {
    let known: HashMap<_, _> = sent
        .iter()
        .map(|note| (note.text.as_str(), *note))
        .collect();
    let mut positions = HashMap::new();
    // What is there, once each, in the order of the list.
    let mut found = Vec::new();
    for (position, text) in list.iter().enumerate() {
        match known.get(text.as_str()) {
            None => breach(Promise::Known, text),
            Some(_) if positions.contains_key(text.as_str()) => breach(Promise::Once, text),
            Some(note) => {
                positions.insert(text.as_str(), position);
                found.push(*note);
            }
        }
    }

    let mut last_of_chat = HashMap::new();
    for note in sent {
        let Some(&position) = positions.get(note.text.as_str()) else {
            if note.acknowledged.is_some() {
                breach(Promise::Kept, &note.text);
            }
            continue;
        };
        let before = &list[..position];
        let true_so_far = before.starts_with(&note.earlier);
        if !true_so_far || note.heard_out && note.earlier.len() < before.len() {
            breach(Promise::Earlier, &note.text);
        }
        if last_of_chat
            .insert(note.chat, position)
            .is_some_and(|last| last > position)
        {
            breach(Promise::ChatOrder, &note.text);
        }
    }

    let mut acknowledged_first = None;
    for note in found.into_iter().rev() {
        if acknowledged_first.is_some_and(|at| at < note.at) {
            breach(Promise::RealTime, &note.text);
        }
        acknowledged_first = acknowledged_first
            .into_iter()
            .chain(note.acknowledged)
            .min();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Place, Promise, Sent, check};

    const HERE: Place = (1, 2);
    const THERE: Place = (3, 4);

    type History = (Vec<Sent<u32>>, BTreeMap<Place, Vec<String>>);

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// A note that was acknowledged and heard out.
    fn note(chat: u32, place: Place, text: &str, times: [u32; 2], earlier: &[&str]) -> Sent<u32> {
        Sent {
            chat,
            place,
            text: text.to_owned(),
            at: times[0],
            acknowledged: Some(times[1]),
            earlier: texts(earlier),
            heard_out: true,
        }
    }

    /// A note whose chat failed.
    fn failed(chat: u32, place: Place, text: &str, at: u32) -> Sent<u32> {
        Sent {
            acknowledged: None,
            heard_out: false,
            ..note(chat, place, text, [at, at], &[])
        }
    }

    /// Two chats at two places, the notes at the same place sent together; a third chat that failed
    /// and left one of its two notes all the same; and a fourth of which half a reply was heard.
    fn good() -> History {
        let mut cut = note(4, HERE, "4a", [40, 45], &["1a"]);
        cut.heard_out = false;
        let sent = vec![
            note(1, HERE, "1a", [1, 5], &[]),
            note(1, HERE, "1b", [1, 5], &["1a"]),
            note(1, THERE, "1c", [6, 8], &[]),
            note(2, HERE, "2a", [3, 9], &["1a", "1b"]),
            failed(3, HERE, "3a", 10),
            failed(3, HERE, "3b", 10),
            cut,
        ];
        let lists = BTreeMap::from([
            (HERE, texts(&["1a", "1b", "2a", "3a", "4a"])),
            (THERE, texts(&["1c"])),
        ]);
        (sent, lists)
    }

    /// What is found once the good history has been forged.
    fn forged(forge: impl FnOnce(&mut History)) -> Vec<(Promise, String)> {
        let mut history = good();
        forge(&mut history);
        let breaches = check(&history.0, &history.1).into_iter();
        breaches
            .map(|breach| (breach.promise, breach.text))
            .collect()
    }

    fn list(history: &mut History) -> &mut Vec<String> {
        history.1.get_mut(&HERE).expect("there")
    }

    #[test]
    fn a_good_history_has_no_breach() {
        assert_eq!(forged(|_| ()), []);
    }

    #[test]
    fn a_note_that_failed_may_be_there_or_not() {
        let gone = |history: &mut History| _ = list(history).remove(3);
        assert_eq!(forged(gone), []);
        let both = |history: &mut History| list(history).insert(4, "3b".to_owned());
        assert_eq!(forged(both), []);
    }

    #[test]
    fn an_acknowledged_note_that_is_gone_is_lost() {
        let gone = |history: &mut History| _ = list(history).pop();
        assert_eq!(forged(gone), [(Promise::Kept, "4a".to_owned())]);
        let all = |history: &mut History| _ = history.1.remove(&THERE);
        assert_eq!(forged(all), [(Promise::Kept, "1c".to_owned())]);
    }

    #[test]
    fn a_note_must_not_be_there_twice_even_if_its_chat_failed() {
        for text in ["4a", "3a"] {
            let twice = |history: &mut History| list(history).push(text.to_owned());
            assert_eq!(forged(twice), [(Promise::Once, text.to_owned())]);
        }
    }

    #[test]
    fn what_nobody_sent_to_a_place_is_unknown() {
        let stranger = |history: &mut History| list(history).push("1c".to_owned());
        assert_eq!(forged(stranger), [(Promise::Known, "1c".to_owned())]);
        let nowhere = |history: &mut History| _ = history.1.insert((5, 6), texts(&["?"]));
        assert_eq!(forged(nowhere), [(Promise::Known, "?".to_owned())]);
    }

    #[test]
    fn a_note_brings_back_all_before_it_and_nothing_else() {
        for (nth, earlier) in [
            (3, &["1a"][..]),
            (3, &["1b", "1a"]),
            (3, &["1a", "1b", "3a"]),
            (0, &["1b"]),
            // Of what was cut off, as far as it came.
            (6, &["1b"]),
        ] {
            let other = |history: &mut History| history.0[nth].earlier = texts(earlier);
            let text = good().0[nth].text.clone();
            assert_eq!(forged(other), [(Promise::Earlier, text)], "{earlier:?}");
        }
    }

    #[test]
    fn notes_of_a_chat_stay_in_order() {
        let turned = |history: &mut History| {
            list(history).swap(0, 1);
            history.0[0].earlier = texts(&["1b"]);
            history.0[1].earlier = texts(&[]);
            history.0[3].earlier = texts(&["1b", "1a"]);
            history.0[6].earlier = texts(&["1b"]);
        };
        assert_eq!(forged(turned), [(Promise::ChatOrder, "1b".to_owned())]);
    }

    #[test]
    fn what_is_sent_after_an_acknowledgement_comes_after_the_note() {
        // Sent at 10, when 2a had been acknowledged.
        let overtaken = |history: &mut History| {
            list(history).swap(2, 3);
            history.0[3].earlier = texts(&["1a", "1b", "3a"]);
        };
        assert_eq!(forged(overtaken), [(Promise::RealTime, "3a".to_owned())]);
        let together = |history: &mut History| {
            overtaken(history);
            history.0[4].at = 9;
        };
        assert_eq!(forged(together), []);
    }
}
