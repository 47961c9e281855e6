//! Files of features: a JSON array, or newline-delimited JSON, of
//! `{"location":{"latitude":…,"longitude":…},"name":"…"}`.
//!
//! Each entry is read, handed on and forgotten, so that the largest file takes no more memory to read than
//! its longest entry, and that has a limit.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt::{self, Display},
    io::{self, BufRead, Read},
};

use serde::{
    Deserialize, Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::point::Point;

/// Bytes of one entry, with the blanks before it.
const LONGEST: u64 = 64 * 1024;

/// What a file begins with that has an entry in each line.
const LINES: u8 = b'{';

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    location: Location,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Location {
    latitude: i32,
    longitude: i32,
}

/// Hands every entry of `json` to `take`, which may refuse it. The error names the entry, counted from 1,
/// and what is wrong with it.
pub(crate) fn read(
    mut json: impl BufRead,
    mut take: impl FnMut(Point, String) -> Result<(), String>,
) -> Result<(), String> {
    let mut take = |Entry { location, name }: Entry<'_>| {
        let location = Point::new(location.latitude, location.longitude)
            .map_err(|error| format!("{}: {error}", error.coordinate))?;
        take(location, name.into_owned())
    };
    let first = first_byte(&mut json).map_err(|error| error.to_string())?;
    let read = match first {
        Some(LINES) => read_lines(json, &mut take),
        _ => read_array(json, &mut take).map_err(|error| error.to_string()),
    };
    read.map_err(|problem| on_one_line(&problem))
}

/// Without the line ends that a problem quotes from the file, and whatever else a terminal would obey.
fn on_one_line(problem: &str) -> String {
    let mut line = String::new();
    for letter in problem.chars() {
        match letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

/// The first byte that is not blank, which stays to be read, unlike the blanks.
fn first_byte(json: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = json.fill_buf()?;
        let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace());
        let blanks = blanks.count();
        let first = buffer.get(blanks).copied();
        json.consume(blanks);
        if first.is_some() || blanks == 0 {
            return Ok(first);
        }
    }
}

fn read_lines(
    mut json: impl BufRead,
    take: &mut dyn FnMut(Entry<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut line = Vec::new();
    let mut number = 1u64;
    loop {
        let problem = |error: &dyn Display| format!("entry {number}: {error}");
        line.clear();
        let mut rationed = json.by_ref().take(LONGEST + 1);
        let read = rationed.read_until(b'\n', &mut line);
        if read.map_err(|error| problem(&error))? == 0 {
            return Ok(());
        }
        if line.len() as u64 > LONGEST {
            return Err(problem(&TooLong));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // serde_json sees one line, and the number of the entry tells which.
        let placed =
            |error: serde_json::Error| error.to_string().replace("line 1 column", "column");
        let entry = serde_json::from_slice(&line).map_err(|error| problem(&placed(error)))?;
        take(entry).map_err(|error| problem(&error))?;
        number += 1;
    }
}

fn read_array(
    json: impl Read,
    take: &mut dyn FnMut(Entry<'_>) -> Result<(), String>,
) -> Result<(), serde_json::Error> {
    let left = Cell::new(LONGEST);
    let rationed = Rationed { json, left: &left };
    let mut json = serde_json::Deserializer::from_reader(rationed);
    json.deserialize_seq(Entries { take, left: &left })?;
    json.end()
}

/// By hand, so that an error can tell the number of its entry, and no two are held at once.
struct Entries<'a> {
    take: &'a mut dyn FnMut(Entry<'_>) -> Result<(), String>,
    left: &'a Cell<u64>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of features")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        for number in 1u64.. {
            let problem =
                |error: &dyn Display| A::Error::custom(format_args!("entry {number}: {error}"));
            self.left.set(LONGEST);
            match entries.next_element().map_err(|error| problem(&error))? {
                Some(entry) => (self.take)(entry).map_err(|error| problem(&error))?,
                None => break,
            }
        }
        Ok(())
    }
}

/// Gives out no more than is `left` until that is set anew.
struct Rationed<'a, R> {
    json: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.json.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left
            .set(left.ok_or_else(|| io::Error::other(TooLong))?);
        Ok(read)
    }
}

#[derive(Debug)]
struct TooLong;

impl Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "longer than {LONGEST} bytes")
    }
}

impl std::error::Error for TooLong {}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::prelude::*;

    use super::{LONGEST, read};

    fn entries(json: impl Read) -> Result<Vec<(i32, i32, String)>, String> {
        let mut entries = Vec::new();
        read(BufReader::with_capacity(7, json), |location, name| {
            if name == "bad" {
                return Err("refused".to_owned());
            }
            entries.push((location.latitude(), location.longitude(), name));
            Ok(())
        })?;
        Ok(entries)
    }

    fn problem(json: &str) -> String {
        entries(json.as_bytes()).expect_err("refused")
    }

    fn entry(latitude: i32, longitude: i32, name: &str) -> String {
        format!(
            r#"{{"location":{{"latitude":{latitude},"longitude":{longitude}}},"name":"{name}"}}"#
        )
    }

    #[test]
    fn an_array_and_lines_say_the_same() {
        let (a, b) = (
            entry(1, -2, r"\u00e4"),
            entry(900_000_000, 1_800_000_000, ""),
        );
        let expected = vec![
            (1, -2, "ä".to_owned()),
            (900_000_000, 1_800_000_000, String::new()),
        ];
        for json in [
            format!("[{a},{b}]"),
            format!(" \n[\n{a}\n,\n{b}\n]\n\n"),
            format!("{a}\n{b}"),
            format!("\n \n{a}\r\n\n {b} \n\n"),
        ] {
            assert_eq!(entries(json.as_bytes()).as_ref(), Ok(&expected), "{json}");
        }
        assert_eq!(entries("[]".as_bytes()), Ok(vec![]));
    }

    #[test]
    fn a_bad_entry_is_refused_with_its_number_and_the_reason() {
        let good = entry(1, 2, "a");
        let nameless = r#"{"location":{"latitude":3,"longitude":4}}"#;
        for (entry, what) in [
            (
                &*entry(0, 1_800_000_001, "b"),
                "longitude: 1800000001 is outside -1800000000..1800000000",
            ),
            (&entry(5, 6, "bad"), "refused"),
            (nameless, "missing field `name`"),
            (
                &entry(7, 8, &"x".repeat(LONGEST as usize)),
                "longer than 65536 bytes",
            ),
            (&good[1..], "trailing characters"),
        ] {
            for json in [format!("[{good},{entry}]"), format!("{good}\n{entry}\n")] {
                let text = problem(&json);
                let found = text.starts_with(&format!("entry 2: {what}"));
                let not_an_entry = what == "trailing characters";
                assert!(
                    found || not_an_entry && text.starts_with("entry 2: "),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (json, what) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            (
                "7",
                "invalid type: integer `7`, expected an array of features",
            ),
            ("[", "entry 1: EOF while parsing a list"),
            ("[] []", "trailing characters"),
            ("{}", "entry 1: missing field `location` at column 2"),
        ] {
            assert!(problem(json).starts_with(what), "{}", problem(json));
        }
    }

    #[test]
    fn an_endless_entry_is_given_up() {
        let endless = || std::io::repeat(b'x');
        for start in [r#"[{"name":""#, r#"{"name":""#] {
            let text = entries(start.as_bytes().chain(endless())).expect_err("refused");
            assert!(
                text.starts_with("entry 1: longer than 65536 bytes"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_entry_may_be_as_long_as_the_limit_says() {
        let short = entry(1, 2, "").len() as u64;
        let longest = entry(1, 2, &"x".repeat((LONGEST - short) as usize));
        assert_eq!(longest.len() as u64, LONGEST);
        assert_eq!(entries(longest.as_bytes()).expect("read").len(), 1);
    }

    #[test]
    fn a_problem_that_quotes_the_file_stays_on_one_line() {
        let expected = r"unknown field `\n\u{1b}[2J`, expected `location` or `name`";
        let odd = r#"{"\n\u001b[2J":1}"#;
        for json in [odd.to_owned(), format!("[{odd}]")] {
            let problem = problem(&json);
            assert!(problem.contains(expected), "{problem}");
        }
    }

    /// A file with some of its bytes changed.
    fn damaged_file() -> impl Strategy<Value = Vec<u8>> {
        let (a, b) = (
            entry(1, -2, r"\u00e4"),
            entry(900_000_000, 1_800_000_000, ""),
        );
        let good = prop::sample::select(vec![format!("[{a},\n{b}]"), format!("{a}\n{b}\n")]);
        let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3);
        (good, prop::collection::vec(change, 0..4)).prop_map(|(good, changes)| {
            let mut bytes = good.into_bytes();
            for (at, byte, how) in changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_file_is_read_whole_or_refused_with_one_line(file in prop_oneof![damaged_file(), any::<Vec<u8>>()]) {
            if let Err(problem) = entries(file.as_slice()) {
                prop_assert_eq!(problem.lines().count(), 1, "{}", problem);
            }
        }
    }
}
