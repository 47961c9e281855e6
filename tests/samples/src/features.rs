//! The features that every server here starts with, as messages.

use std::io::Read;

use proto::routeguide::{Feature, Point, Rectangle};

/// All of them, in the order of the file.
pub fn all() -> Vec<Feature> {
    read(include_bytes!("../../../data/route_guide_db.json").as_slice())
}

/// Those of a features file, in its order.
pub fn read(json: impl Read) -> Vec<Feature> {
    let entries: Vec<serde_json::Value> =
        serde_json::from_reader(json).expect("an array of features");
    let degrees = |value: &serde_json::Value| {
        let degrees = value.as_i64().and_then(|value| value.try_into().ok());
        degrees.expect("a coordinate")
    };
    let feature = |entry: &serde_json::Value| Feature {
        name: entry["name"].as_str().expect("a name").to_owned(),
        location: Some(Point {
            latitude: degrees(&entry["location"]["latitude"]),
            longitude: degrees(&entry["location"]["longitude"]),
        }),
    };
    entries.iter().map(feature).collect()
}

/// Whether a rectangle, whichever way round, holds a feature; nothing is in one that lacks a corner.
pub fn is_inside(feature: &Feature, area: &Rectangle) -> bool {
    let (Some(place), Some(lo), Some(hi)) = (feature.location, area.lo, area.hi) else {
        return false;
    };
    let between = |value: i32, a: i32, b: i32| (a.min(b)..=a.max(b)).contains(&value);
    between(place.latitude, lo.latitude, hi.latitude)
        && between(place.longitude, lo.longitude, hi.longitude)
}
