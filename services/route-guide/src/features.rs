//! The database: named and unnamed places, read once and immutable.

use std::{
    fmt::Display,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use proto::routeguide::{self as wire, Feature};

use crate::{encoded::Encoded, features_file, places::Places, point::Point};

/// Every location and its encoded feature, by the same ids. No two features are at one point.
#[derive(Debug)]
pub(crate) struct Features {
    pub(crate) places: Arc<Places>,
    pub(crate) replies: Encoded<Feature>,
}

impl Features {
    /// The 100 places around New York that every implementation of RouteGuide starts with.
    pub(crate) fn embedded() -> Result<Self, String> {
        const PATH: &str = "data/route_guide_db.json";
        const JSON: &[u8] = include_bytes!("../../../data/route_guide_db.json");
        read(JSON, JSON.len()).map_err(|error| format!("{PATH}: {error}"))
    }

    /// Reads a file as [`features_file::read`] does. The error names the file, the entry and the problem.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        let problem = |error: &dyn Display| format!("FEATURES_FILE={}: {error}", path.display());
        let file = File::open(path).map_err(|error| problem(&error))?;
        let length = file.metadata().map_err(|error| problem(&error))?.len();
        let length = usize::try_from(length).unwrap_or_default();
        read(BufReader::new(file), length).map_err(|error| problem(&error))
    }

    /// The feature at exactly this point.
    pub(crate) fn at(&self, location: Point) -> Option<Feature> {
        self.replies.get(self.places.at(location)?)
    }
}

/// `length` is that of `json`, if it is known. Encoded features are shorter than those in JSON.
fn read(json: impl BufRead, length: usize) -> Result<Features, String> {
    let mut places = Places::default();
    let mut replies = Encoded::builder(length);
    features_file::read(json, |location, name| {
        places.push(location).map_err(|error| error.to_string())?;
        let feature = Feature {
            name,
            location: Some(wire::Point {
                latitude: location.latitude(),
                longitude: location.longitude(),
            }),
        };
        replies.push(&feature).map_err(|error| error.to_string())
    })?;
    places.index();
    Ok(Features {
        places: Arc::new(places),
        replies: replies.build(),
    })
}

#[cfg(test)]
mod tests {
    use super::Features;
    use crate::{
        feature_id::FeatureId,
        point::{Point, Rectangle},
    };

    #[test]
    fn the_embedded_database_is_complete() {
        let features = Features::embedded().expect("sound");
        let corner = |e7| Point::new(e7, e7).expect("on the globe");
        let everywhere = Rectangle::between(corner(-900_000_000), corner(900_000_000));
        let ids: Vec<_> = features.places.inside(everywhere).collect();
        assert_eq!(ids, Vec::from_iter((0..100).map(FeatureId)));
        let named = ids.iter().filter(|&&id| {
            let feature = features.replies.get(id).expect("a feature");
            !feature.name.is_empty()
        });
        assert_eq!(named.count(), 64);
        let trail = Point::new(409_146_138, -746_188_906).expect("on the globe");
        let trail = features.at(trail).expect("known");
        assert_eq!(
            trail.name,
            "Berkshire Valley Management Area Trail, Jefferson, NJ, USA"
        );
    }
}
