//! The index of features by location: the feature at a point, and the features in an area.

use std::{fmt, hash::BuildHasher as _, ops::Range, sync::Arc, vec};

use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::FxBuildHasher;

use crate::{
    feature_id::FeatureId,
    point::{Point, Rectangle},
    tree::Tree,
};

/// The location of each feature, by its id; no two are the same.
#[derive(Debug, Default)]
pub(crate) struct Places {
    points: Vec<Point>,
    /// Only ids: their points are the keys. The hash is fast and predictable, which is safe because callers can
    /// only look up.
    by_point: HashTable<FeatureId>,
    /// None while there are so few that a scan is faster.
    tree: Option<Tree>,
}

/// Why a feature is not added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is one at the same point already.
    Duplicate(FeatureId),
    /// There are 2³² already.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(FeatureId(id)) => {
                write!(f, "the same location as entry {}", u64::from(*id) + 1)
            }
            Self::Full => write!(f, "more than {} features", u32::MAX),
        }
    }
}

impl Places {
    const FEW: usize = 256;

    /// Adds the next feature. [`Self::index`] follows the last.
    pub(crate) fn push(&mut self, point: Point) -> Result<(), Refused> {
        let id = u32::try_from(self.points.len()).map_err(|_| Refused::Full)?;
        let points = &self.points;
        let is_there = |id: &FeatureId| points.get(id.index()) == Some(&point);
        let rehash = |id: &FeatureId| points.get(id.index()).map_or(0, hash);
        match self.by_point.entry(hash(&point), is_there, rehash) {
            Entry::Occupied(earlier) => return Err(Refused::Duplicate(*earlier.get())),
            Entry::Vacant(place) => place.insert(FeatureId(id)),
        };
        self.points.push(point);
        self.tree = None;
        Ok(())
    }

    /// Builds the search tree, and releases spare capacity.
    pub(crate) fn index(&mut self) {
        self.points.shrink_to_fit();
        self.tree = (self.points.len() > Self::FEW).then(|| Tree::over(&self.points));
    }

    /// The feature at exactly this point.
    pub(crate) fn at(&self, point: Point) -> Option<FeatureId> {
        let is_there = |id: &FeatureId| self.points.get(id.index()) == Some(&point);
        self.by_point.find(hash(&point), is_there).copied()
    }

    /// The features inside `area`, by ascending id.
    ///
    /// A caller may request everything in many concurrent calls. So at most 256 KiB of ids are held. If there
    /// are more, or so large a part of all that a scan is no slower, the points are scanned as the iterator is
    /// polled.
    pub(crate) fn inside(self: &Arc<Self>, area: Rectangle) -> Inside {
        const MOST: usize = 64 * 1024;
        let most = (self.points.len() / 8).min(MOST);
        let found = self.tree.as_ref().and_then(|tree| tree.inside(area, most));
        match found {
            Some(found) => Inside::Found(in_order(found).into_iter()),
            None => Inside::Scan {
                places: self.clone(),
                area,
                rest: 0..self.points.len(),
            },
        }
    }
}

fn hash(point: &Point) -> u64 {
    FxBuildHasher.hash_one(point)
}

fn in_order(mut ids: Vec<FeatureId>) -> Vec<FeatureId> {
    // From this size on a radix sort is faster.
    const MANY: usize = 256;
    if ids.len() < MANY {
        ids.sort_unstable();
    } else {
        radsort::sort_by_key(&mut ids, |id| id.0);
    }
    ids
}

/// The features in an area.
#[derive(Debug)]
pub(crate) enum Inside {
    Found(vec::IntoIter<FeatureId>),
    Scan {
        places: Arc<Places>,
        area: Rectangle,
        rest: Range<usize>,
    },
}

impl Iterator for Inside {
    type Item = FeatureId;

    fn next(&mut self) -> Option<FeatureId> {
        match self {
            Self::Found(ids) => ids.next(),
            Self::Scan { places, area, rest } => {
                let is_inside = |index: &usize| {
                    let point = places.points.get(*index);
                    point.is_some_and(|&point| area.contains(point))
                };
                rest.find(is_inside).map(|index| FeatureId(index as u32))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Found(ids) => ids.size_hint(),
            Self::Scan { rest, .. } => (0, Some(rest.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use proptest::prelude::*;

    use super::{Inside, Places, Refused, in_order};
    use crate::{
        feature_id::FeatureId,
        point::{Point, Rectangle},
    };

    fn point(latitude: i32, longitude: i32) -> Point {
        Point::new(latitude, longitude).expect("on the globe")
    }

    fn ids() -> impl Iterator<Item = FeatureId> {
        (0..).map(FeatureId)
    }

    fn places(points: &[Point]) -> Arc<Places> {
        let mut places = Places::default();
        for &point in points {
            places.push(point).expect("a new place");
        }
        places.index();
        Arc::new(places)
    }

    /// A coordinate: anywhere, at the edges, or in a small area, where many share it.
    fn coordinate(limit: i32) -> impl Strategy<Value = i32> {
        prop_oneof![
            4 => -limit..=limit,
            4 => -20..20i32,
            1 => prop::sample::select(vec![-limit, 0, limit]),
        ]
    }

    fn anywhere() -> impl Strategy<Value = Point> {
        let coordinates = (coordinate(900_000_000), coordinate(1_800_000_000));
        coordinates.prop_map(|(latitude, longitude)| point(latitude, longitude))
    }

    /// Maps of distinct places, with sizes around every threshold.
    fn map() -> impl Strategy<Value = Vec<Point>> {
        let few = Places::FEW;
        let many = prop_oneof![0..few, few - 2..few + 3, few..700];
        many.prop_flat_map(|many| {
            prop::collection::vec(anywhere(), many).prop_map(|points| {
                let mut seen = HashSet::new();
                points
                    .into_iter()
                    .filter(|point| seen.insert(*point))
                    .collect()
            })
        })
    }

    /// A map and two corners: anywhere, at places, or both at the same one.
    fn search() -> impl Strategy<Value = (Vec<Point>, Point, Point)> {
        let corners = (
            anywhere(),
            anywhere(),
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            0..4,
        );
        (map(), corners).prop_map(|(points, (a, b, i, j, how))| {
            let place = |index: prop::sample::Index, or| match points.len() {
                0 => or,
                many => points[index.index(many)],
            };
            let (a, b) = match how {
                0 => (a, b),
                1 => (place(i, a), b),
                2 => (place(i, a), place(j, b)),
                _ => (place(i, a), place(i, a)),
            };
            (points, a, b)
        })
    }

    proptest! {
        #[test]
        fn a_search_finds_what_a_scan_finds_in_the_same_order((points, a, b) in search()) {
            let area = Rectangle::between(a, b);
            let scan = ids().zip(&points).filter(|(_, point)| area.contains(**point));
            let scan: Vec<_> = scan.map(|(id, _)| id).collect();
            prop_assert_eq!(places(&points).inside(area).collect::<Vec<_>>(), scan);
        }

        #[test]
        fn every_place_is_at_its_point_and_nothing_is_elsewhere(points in map(), other in anywhere()) {
            let places = places(&points);
            for (id, &point) in ids().zip(&points) {
                prop_assert_eq!(places.at(point), Some(id));
            }
            if !points.contains(&other) {
                prop_assert_eq!(places.at(other), None);
            }
        }

        #[test]
        fn ids_are_put_in_order(ids in prop::collection::vec(any::<u32>(), 0..300)) {
            let ids: Vec<_> = ids.into_iter().map(FeatureId).collect();
            let mut sorted = ids.clone();
            sorted.sort();
            prop_assert_eq!(in_order(ids), sorted);
        }
    }

    #[test]
    fn of_much_no_list_is_made() {
        let points: Vec<_> = (0..80_000).map(|number| point(number, number)).collect();
        let places = places(&points);
        let up_to = |last: i32| places.inside(Rectangle::between(points[0], point(last, last)));
        assert!(matches!(up_to(9_999), Inside::Found(_)), "an eighth of all");
        assert!(matches!(up_to(10_000), Inside::Scan { .. }), "one more");
        for last in [9_999, 10_000, 79_999] {
            assert!(up_to(last).eq(ids().take(last as usize + 1)), "{last}");
        }
    }

    #[test]
    fn a_location_is_added_once() {
        let mut places = Places::default();
        assert_eq!(places.push(point(1, 2)), Ok(()));
        assert_eq!(places.push(point(2, 1)), Ok(()));
        assert_eq!(
            places.push(point(1, 2)),
            Err(Refused::Duplicate(FeatureId(0)))
        );
        assert_eq!(
            Refused::Duplicate(FeatureId(0)).to_string(),
            "the same location as entry 1"
        );
    }
}
