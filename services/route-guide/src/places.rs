//! Where things are: the number of the place at a point, and the numbers of those in an area.

use std::{fmt, hash::BuildHasher as _, ops::Range, sync::Arc, vec};

use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::FxBuildHasher;

use crate::{
    point::{Point, Rectangle},
    tree::Tree,
};

/// Points by their numbers, which count from 0 in the order of the file; no two are the same.
#[derive(Debug, Default)]
pub(crate) struct Places {
    points: Vec<Point>,
    /// Numbers alone: the points they stand for are their keys. The hash is quick and can be
    /// foreseen, which is safe because callers only ever look up.
    by_point: HashTable<u32>,
    /// None while there are so few that looking at each is quicker.
    tree: Option<Tree>,
}

/// Why a place is not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is one already, with this number.
    Twice(u32),
    /// There are 2³² already.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(number) => write!(f, "the same place as entry {}", u64::from(*number) + 1),
            Self::Full => write!(f, "more than {} places", u32::MAX),
        }
    }
}

impl Places {
    const FEW: usize = 256;

    /// Takes a place in. [`Self::index`] follows the last.
    pub(crate) fn push(&mut self, point: Point) -> Result<(), Refused> {
        let number = u32::try_from(self.points.len()).map_err(|_| Refused::Full)?;
        let points = &self.points;
        let is_there = |&number: &u32| points.get(number as usize) == Some(&point);
        let rehash = |&number: &u32| points.get(number as usize).map_or(0, hash);
        match self.by_point.entry(hash(&point), is_there, rehash) {
            Entry::Occupied(earlier) => return Err(Refused::Twice(*earlier.get())),
            Entry::Vacant(place) => place.insert(number),
        };
        self.points.push(point);
        self.tree = None;
        Ok(())
    }

    /// Makes searching quick, and gives back what memory is not needed.
    pub(crate) fn index(&mut self) {
        self.points.shrink_to_fit();
        self.tree = (self.points.len() > Self::FEW).then(|| Tree::over(&self.points));
    }

    /// The number of the place at exactly this point.
    pub(crate) fn at(&self, point: Point) -> Option<u32> {
        let is_there = |&number: &u32| self.points.get(number as usize) == Some(&point);
        self.by_point.find(hash(&point), is_there).copied()
    }

    /// The numbers of the places inside `area`, in ascending order.
    ///
    /// A caller may ask for everything, many times at once. So no more than 256 KiB of numbers are ever
    /// held: where there are more, or so many of all that it is no slower, they are found one by one as
    /// they are asked for.
    pub(crate) fn inside(self: &Arc<Self>, area: Rectangle) -> Inside {
        const MOST: usize = 64 * 1024;
        let most = (self.points.len() / 8).min(MOST);
        let found = self.tree.as_ref().and_then(|tree| tree.inside(area, most));
        match found {
            Some(found) => Inside::Found(in_order(found).into_iter()),
            None => Inside::Sought {
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

fn in_order(mut numbers: Vec<u32>) -> Vec<u32> {
    // From where on a radix sort is quicker.
    const MANY: usize = 256;
    if numbers.len() < MANY {
        numbers.sort_unstable();
    } else {
        radsort::sort(&mut numbers);
    }
    numbers
}

/// The places in an area.
#[derive(Debug)]
pub(crate) enum Inside {
    Found(vec::IntoIter<u32>),
    Sought {
        places: Arc<Places>,
        area: Rectangle,
        rest: Range<usize>,
    },
}

impl Iterator for Inside {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Found(numbers) => numbers.next(),
            Self::Sought { places, area, rest } => {
                let is_inside = |number: &usize| {
                    let point = places.points.get(*number);
                    point.is_some_and(|&point| area.contains(point))
                };
                rest.find(is_inside).map(|number| number as u32)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Found(numbers) => numbers.size_hint(),
            Self::Sought { rest, .. } => (0, Some(rest.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use proptest::prelude::*;

    use super::{Inside, Places, Refused, in_order};
    use crate::point::{Point, Rectangle};

    fn point(latitude: i32, longitude: i32) -> Point {
        Point::new(latitude, longitude).expect("on the globe")
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

    /// As many places as are told apart, around every size at which something changes.
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
            let scan = (0..).zip(&points).filter(|(_, point)| area.contains(**point));
            let scan: Vec<u32> = scan.map(|(number, _)| number).collect();
            prop_assert_eq!(places(&points).inside(area).collect::<Vec<_>>(), scan);
        }

        #[test]
        fn every_place_is_at_its_point_and_nothing_is_elsewhere(points in map(), other in anywhere()) {
            let places = places(&points);
            for (number, &point) in (0..).zip(&points) {
                prop_assert_eq!(places.at(point), Some(number));
            }
            if !points.contains(&other) {
                prop_assert_eq!(places.at(other), None);
            }
        }

        #[test]
        fn numbers_are_put_in_order(numbers in prop::collection::vec(any::<u32>(), 0..300)) {
            let mut sorted = numbers.clone();
            sorted.sort();
            prop_assert_eq!(in_order(numbers), sorted);
        }
    }

    #[test]
    fn of_much_no_list_is_made() {
        let points: Vec<_> = (0..80_000).map(|number| point(number, number)).collect();
        let places = places(&points);
        let up_to = |last: i32| places.inside(Rectangle::between(points[0], point(last, last)));
        assert!(matches!(up_to(9_999), Inside::Found(_)), "an eighth of all");
        assert!(matches!(up_to(10_000), Inside::Sought { .. }), "one more");
        for last in [9_999, 10_000, 79_999] {
            assert!(up_to(last).eq(0..=last as u32), "{last}");
        }
    }

    #[test]
    fn a_place_is_taken_once() {
        let mut places = Places::default();
        assert_eq!(places.push(point(1, 2)), Ok(()));
        assert_eq!(places.push(point(2, 1)), Ok(()));
        assert_eq!(places.push(point(1, 2)), Err(Refused::Twice(0)));
        assert_eq!(Refused::Twice(0).to_string(), "the same place as entry 1");
    }
}
