//! Files of features, `{"location":{"latitude":…,"longitude":…},"name":"…"}` each: one after another, on a
//! line each or on several, as grpcurl and buf print the replies of ListFeatures; in an array; or in
//! `{"feature":[…]}`, as in the examples of other languages. As in any protobuf JSON, a field that is 0 or
//! empty may be omitted.
//!
//! Entries are read and passed on one at a time, so that a file of any size needs no more memory than its
//! longest entry, whose size is limited.

use std::{
    cell::Cell,
    fmt::{self, Display},
    io::{self, BufRead, BufReader, Read},
};

use serde::{
    Deserialize, Deserializer as _,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Deserializer;

use crate::point::Point;

/// Size up to which an entry, including the white space before it, is always accepted. A longer one is
/// refused before [`BUFFER`] more bytes are read.
const LONGEST: usize = 64 * 1024;

/// Bytes per read.
const BUFFER: usize = 8 * 1024;

/// Maximum bytes to read for an entry: [`LONGEST`], and the rest of the buffer.
const RATION: usize = LONGEST + BUFFER;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a feature")]
struct Entry {
    location: Location,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a location")]
struct Location {
    latitude: i32,
    longitude: i32,
}

type Take<'a> = &'a mut dyn FnMut(Entry) -> Result<(), String>;

/// Passes every entry of `json` to `take`, which may refuse it. The error names the entry, counted from 1,
/// and the problem.
pub(crate) fn read(
    json: impl BufRead,
    mut take: impl FnMut(Point, String) -> Result<(), String>,
) -> Result<(), String> {
    let mut take = |Entry { location, name }: Entry| {
        let location = Point::new(location.latitude, location.longitude)
            .map_err(|error| format!("{}: {error}", error.coordinate))?;
        take(location, name)
    };
    read_entries(json, &mut take).map_err(|problem| on_one_line(&problem))
}

fn read_entries(mut json: impl BufRead, take: Take<'_>) -> Result<(), String> {
    let start = start(&mut json)?;
    let tokens = start.iter().filter(|byte| !byte.is_ascii_whitespace());
    let tokens: Vec<_> = tokens.copied().collect();
    let left = Cell::new(RATION);
    let json = Rationed {
        json: start.chain(json),
        left: &left,
    };
    let mut json = Deserializer::from_reader(BufReader::with_capacity(BUFFER, json));
    let entries = Entries { take, left: &left };
    let read = match *tokens {
        [b'{', ..] if tokens != br#"{"feature":"# => return entries.read_each(json),
        [b'{', ..] => json.deserialize_map(Wrapped(entries)),
        _ => json.deserialize_seq(entries),
    };
    read.and_then(|()| json.end())
        .map_err(|error| error.to_string())
}

/// The start of a file, to the first colon: enough to recognise its form. A byte order mark, which some
/// editors write, is skipped.
fn start(json: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let mut start = Vec::new();
    let read = json.take(LONGEST as u64).read_until(b':', &mut start);
    read.map_err(|error| error.to_string())?;
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] = *start {
        return Err("this is UTF-16; save it as UTF-8".to_owned());
    }
    if start.starts_with("\u{feff}".as_bytes()) {
        start.drain(.."\u{feff}".len());
    }
    Ok(start)
}

/// Replaces line ends and other control characters that a problem quotes from the file.
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

/// Visits an array by hand, so that an error can name the number of its entry, and only one is in memory.
struct Entries<'a> {
    take: Take<'a>,
    left: &'a Cell<usize>,
}

impl Entries<'_> {
    /// Reads entries that follow each other without an array.
    fn read_each<'de>(
        self,
        json: Deserializer<impl serde_json::de::Read<'de>>,
    ) -> Result<(), String> {
        for (number, entry) in (1u64..).zip(json.into_iter()) {
            let problem = |error: &dyn Display| format!("entry {number}: {error}");
            (self.take)(entry.map_err(|error| problem(&error))?)
                .map_err(|error| problem(&error))?;
            self.left.set(RATION);
        }
        Ok(())
    }
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
            self.left.set(RATION);
            match entries.next_element().map_err(|error| problem(&error))? {
                Some(entry) => (self.take)(entry).map_err(|error| problem(&error))?,
                None => break,
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

/// `{"feature":[…]}`.
struct Wrapped<'a>(Entries<'a>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Feature,
}

impl<'de> Visitor<'de> for Wrapped<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an array of features")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Some(Field::Feature) = fields.next_key()? else {
            return Err(A::Error::missing_field("feature"));
        };
        fields.next_value_seed(self.0)?;
        match fields.next_key()? {
            Some(Field::Feature) => Err(A::Error::duplicate_field("feature")),
            None => Ok(()),
        }
    }
}

/// A reader that fails after `left` bytes, unless that is reset.
struct Rationed<'a, R> {
    json: R,
    left: &'a Cell<usize>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.json.read(buffer)?;
        let left = self.left.get().checked_sub(read);
        let too_long = || io::Error::other(format!("longer than {LONGEST} bytes"));
        self.left.set(left.ok_or_else(too_long)?);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::prelude::*;

    use super::{BUFFER, LONGEST, read};

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
    fn every_form_says_the_same() {
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
            format!("{a}{b}"),
            format!("\u{feff}{a}\n{b}"),
            format!("\u{feff}[{a},{b}]"),
            format!(r#"{{"feature":[{a},{b}]}}"#),
            format!("\u{feff}\n{{\n \"feature\" : [\n{a},\n{b}\n]\n}}\n"),
            format!("{a}\n{b}\n")
                .replace(':', " :\n  ")
                .replace(',', "\n,"),
        ] {
            assert_eq!(entries(json.as_bytes()).as_ref(), Ok(&expected), "{json}");
        }
        for json in ["[]", r#"{"feature":[]}"#] {
            assert_eq!(entries(json.as_bytes()), Ok(vec![]));
        }
    }

    #[test]
    fn a_bad_entry_is_refused_with_its_number_and_the_reason() {
        let good = entry(1, 2, "a");
        let misspelt = good.replace("name", "nane");
        for (entry, what) in [
            (
                &*entry(0, 1_800_000_001, "b"),
                "longitude: 1800000001 is outside -1800000000..1800000000",
            ),
            (&entry(5, 6, "bad"), "refused"),
            (
                &misspelt,
                "unknown field `nane`, expected `location` or `name`",
            ),
            ("[]", "invalid"),
            (
                &entry(7, 8, &"x".repeat(LONGEST + 2 * BUFFER)),
                "longer than 65536 bytes",
            ),
            (&good[1..], "trailing characters"),
        ] {
            for json in [
                format!("[{good},{entry}]"),
                format!("{good}\n{entry}\n"),
                format!(r#"{{"feature":[{good},{entry}]}}"#),
            ] {
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
            ("{}", "entry 1: missing field `location` at line 1 column 2"),
            (
                "{\n \"feature\": [], \"features\": []}",
                "unknown field `features`, expected `feature` at line 2 column 27",
            ),
            (
                r#"{"feature":[],"feature":[]}"#,
                "duplicate field `feature`",
            ),
            (r#"{"feature":[]} {}"#, "trailing characters"),
            (r#"{"feature":{}}"#, "invalid type: map, expected an array"),
            (r#"{"feature":["#, "entry 1: EOF"),
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
        let short = entry(1, 2, "").len();
        let longest = entry(1, 2, &"x".repeat(LONGEST - short));
        assert_eq!(longest.len(), LONGEST);
        // At any start in the buffer, and with anything after its end.
        let after = entry(1, 2, &"z".repeat(2 * BUFFER));
        for before in 0..5 {
            let before = entry(1, 2, &"y".repeat(before * BUFFER / 4 + 1));
            let all = [&*before, &longest, &after];
            for json in [all.join(""), format!("[{}]", all.join(","))] {
                assert_eq!(entries(json.as_bytes()).expect("read").len(), 3);
            }
        }
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

    #[test]
    fn what_is_0_or_empty_may_be_left_out() {
        let json = r#"{"location":{}}{"name":"a","location":{"longitude":-1}}"#;
        let expected = vec![(0, 0, String::new()), (0, -1, "a".to_owned())];
        assert_eq!(entries(json.as_bytes()), Ok(expected));
    }

    #[test]
    fn utf_16_is_called_that() {
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}{}", entry(1, 2, "a"));
            let units: Vec<u16> = text.encode_utf16().collect();
            for encode in [u16::to_le_bytes, u16::to_be_bytes] {
                let file: Vec<u8> = units.iter().copied().flat_map(encode).collect();
                let problem = entries(file.as_slice()).expect_err("refused");
                assert_eq!(problem, "this is UTF-16; save it as UTF-8");
            }
        }
    }

    #[test]
    fn depth_is_refused_before_it_takes_memory() {
        for (start, deeper) in [
            (r#""#, "["),
            (r#""#, r#"{"feature":["#),
            (r#""#, r#"{"location":"#),
            (r#"{"feature":["#, r#"{"feature":["#),
            (r#"{"feature":"#, "["),
        ] {
            let deep = format!("{start}{}", deeper.repeat(1_000_000));
            let problem = problem(&deep);
            assert!(problem.len() < 100, "{problem}");
        }
    }

    /// A file with some of its bytes changed.
    fn damaged_file() -> impl Strategy<Value = Vec<u8>> {
        let (a, b) = (
            entry(1, -2, r"\u00e4"),
            entry(900_000_000, 1_800_000_000, ""),
        );
        let good = prop::sample::select(vec![
            format!("[{a},\n{b}]"),
            format!("{a}\n{b}\n"),
            format!("{{\"feature\":[{a},{b}]}}"),
        ]);
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
