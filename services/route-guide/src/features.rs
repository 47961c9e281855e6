//! The database: named and unnamed places, read once and never changed.

use std::{
    collections::HashMap,
    fmt::{self, Display},
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::point::{Point, Rectangle};

/// A place in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) location: Point,
    /// Empty for an unnamed place.
    pub(crate) name: String,
}

/// Every place, in the order of the file; no two at one point.
#[derive(Debug, Default)]
pub(crate) struct Features {
    features: Vec<Feature>,
    by_location: HashMap<Point, usize>,
}

impl Features {
    /// The 100 places around New York that every implementation of RouteGuide starts with.
    pub(crate) fn embedded() -> Result<Self, String> {
        const PATH: &str = "data/route_guide_db.json";
        read(include_bytes!("../../../data/route_guide_db.json").as_slice())
            .map_err(|error| format!("{PATH}: {error}"))
    }

    /// Reads a JSON array of `{"location":{"latitude","longitude"},"name"}`. The error names the file,
    /// the entry (counted from 1) and what is wrong with it.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        let problem = |error: &dyn Display| format!("FEATURES_FILE={}: {error}", path.display());
        let file = File::open(path).map_err(|error| problem(&error))?;
        read(BufReader::new(file)).map_err(|error| problem(&error))
    }

    /// The feature at exactly this point.
    pub(crate) fn at(&self, location: Point) -> Option<&Feature> {
        self.by_location
            .get(&location)
            .map(|&index| &self.features[index])
    }

    /// The features inside `area`, in the order of the file.
    pub(crate) fn inside(&self, area: Rectangle) -> impl Iterator<Item = &Feature> {
        self.features
            .iter()
            .filter(move |feature| area.contains(feature.location))
    }

    fn push(&mut self, entry: Entry) -> Result<(), String> {
        let location = Point::new(entry.location.latitude, entry.location.longitude)
            .map_err(|error| format!("{}: {error}", error.coordinate))?;
        if let Some(earlier) = self.by_location.insert(location, self.features.len()) {
            return Err(format!("the same place as entry {}", earlier + 1));
        }
        self.features.push(Feature {
            location,
            name: entry.name,
        });
        Ok(())
    }
}

fn read(json: impl Read) -> Result<Features, serde_json::Error> {
    serde_json::from_reader(json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    location: Location,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Location {
    latitude: i32,
    longitude: i32,
}

/// By hand, so that an error can tell the number of its entry, and nothing is held twice.
impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of features")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Features, A::Error> {
                let mut features = Features::default();
                loop {
                    let number = features.features.len() + 1;
                    let problem = |error: &dyn Display| {
                        A::Error::custom(format_args!("entry {number}: {error}"))
                    };
                    match entries.next_element().map_err(|error| problem(&error))? {
                        Some(entry) => features.push(entry).map_err(|error| problem(&error))?,
                        None => return Ok(features),
                    }
                }
            }
        }

        deserializer.deserialize_seq(Entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Features, read};
    use crate::point::{Point, Rectangle};

    fn problem(json: &str) -> String {
        read(json.as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn the_embedded_database_is_complete() {
        let features = Features::embedded().expect("sound");
        let corner = |e7| Point::new(e7, e7).expect("on the globe");
        let everywhere = Rectangle::between(corner(-900_000_000), corner(900_000_000));
        assert_eq!(features.inside(everywhere).count(), 100);
        assert_eq!(
            features
                .inside(everywhere)
                .filter(|feature| !feature.name.is_empty())
                .count(),
            64
        );
        let trail = Point::new(409_146_138, -746_188_906).expect("on the globe");
        let trail = features.at(trail).expect("known");
        assert_eq!(
            trail.name,
            "Berkshire Valley Management Area Trail, Jefferson, NJ, USA"
        );
    }

    #[test]
    fn a_bad_file_is_refused_with_the_entry_and_the_reason() {
        let good = r#"{"location":{"latitude":1,"longitude":2},"name":"a"}"#;
        let far = r#"{"location":{"latitude":0,"longitude":1800000001},"name":"b"}"#;
        let nameless = r#"{"location":{"latitude":3,"longitude":4}}"#;
        for (entry, what) in [
            (
                far,
                "longitude: 1800000001 is outside -1800000000..1800000000",
            ),
            (good, "the same place as entry 1"),
            (nameless, "missing field `name`"),
        ] {
            let text = problem(&format!("[{good},{entry}]"));
            assert!(text.starts_with(&format!("entry 2: {what}")), "{text}");
        }
        let text = problem("{}");
        assert!(text.contains("expected an array of features"), "{text}");
        assert!(
            problem("[").starts_with("entry 1: EOF while parsing a list"),
            "{}",
            problem("[")
        );
        assert!(
            problem("[] []").starts_with("trailing characters"),
            "{}",
            problem("[] []")
        );
    }

    /// A file with some of its bytes changed.
    fn damaged_file() -> impl Strategy<Value = Vec<u8>> {
        const GOOD: &str = r#"[{"location":{"latitude":1,"longitude":-2},"name":"\u00e4"},
            {"location":{"latitude":900000000,"longitude":1800000000},"name":""}]"#;
        let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3);
        prop::collection::vec(change, 0..4).prop_map(|changes| {
            let mut bytes = GOOD.as_bytes().to_vec();
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
        fn any_file_is_read_whole_or_refused(file in prop_oneof![damaged_file(), any::<Vec<u8>>()]) {
            if let Ok(features) = read(file.as_slice()) {
                for feature in &features.features {
                    prop_assert_eq!(features.at(feature.location), Some(feature));
                }
            }
        }
    }
}
