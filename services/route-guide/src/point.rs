//! Points on the globe, and areas.

use std::fmt;

/// A place, in units of 1e-7 degree, within [`Point::LATITUDES`] and [`Point::LONGITUDES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Point {
    latitude: i32,
    longitude: i32,
}

/// A coordinate out of range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OffTheGlobe {
    /// `latitude` or `longitude`.
    pub(crate) coordinate: &'static str,
    value: i32,
    limit: i32,
}

impl fmt::Display for OffTheGlobe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, limit, .. } = self;
        write!(
            f,
            "{value} is outside -{limit}..{limit} (units of 1e-7 degree)"
        )
    }
}

impl Point {
    const LARGEST_LATITUDE: i32 = 900_000_000;
    const LARGEST_LONGITUDE: i32 = 1_800_000_000;

    pub(crate) fn new(latitude: i32, longitude: i32) -> Result<Self, OffTheGlobe> {
        for (coordinate, value, limit) in [
            ("latitude", latitude, Self::LARGEST_LATITUDE),
            ("longitude", longitude, Self::LARGEST_LONGITUDE),
        ] {
            if !(-limit..=limit).contains(&value) {
                return Err(OffTheGlobe {
                    coordinate,
                    value,
                    limit,
                });
            }
        }
        Ok(Self {
            latitude,
            longitude,
        })
    }

    pub(crate) fn latitude(self) -> i32 {
        self.latitude
    }

    pub(crate) fn longitude(self) -> i32 {
        self.longitude
    }

    pub(crate) fn along(self, axis: Axis) -> i32 {
        match axis {
            Axis::Latitude => self.latitude,
            Axis::Longitude => self.longitude,
        }
    }
}

/// A point of a route, with precomputed values for the distances to its neighbours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waypoint {
    /// In radians, like the longitude.
    latitude: f64,
    longitude: f64,
    /// Of the latitude.
    cosine: f64,
}

impl From<Point> for Waypoint {
    fn from(point: Point) -> Self {
        let radians = |e7: i32| (f64::from(e7) / 1e7).to_radians();
        let latitude = radians(point.latitude);
        Self {
            latitude,
            longitude: radians(point.longitude),
            cosine: latitude.cos(),
        }
    }
}

impl Waypoint {
    /// The length of the great circle between two places, in metres: the haversine formula on a
    /// sphere of radius 6 371 000 m.
    pub(crate) fn distance_to(self, other: Self) -> f64 {
        const RADIUS: f64 = 6_371_000.0;
        let square = |of: f64| of * of;
        let latitudes = square(((other.latitude - self.latitude) / 2.0).sin());
        let longitudes = square(((other.longitude - self.longitude) / 2.0).sin());
        let a = latitudes + self.cosine * other.cosine * longitudes;
        // Rounding can make `a` of two antipodes exceed 1, for which `asin` is NaN.
        2.0 * RADIUS * a.min(1.0).sqrt().asin()
    }
}

/// One of the two coordinates.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Axis {
    Latitude,
    Longitude,
}

impl Axis {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Latitude => Self::Longitude,
            Self::Longitude => Self::Latitude,
        }
    }
}

/// The area between two opposite corners, edges included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rectangle {
    south_west: Point,
    north_east: Point,
}

impl Rectangle {
    /// The corners may be in any order.
    pub(crate) fn between(a: Point, b: Point) -> Self {
        Self {
            south_west: Point {
                latitude: a.latitude.min(b.latitude),
                longitude: a.longitude.min(b.longitude),
            },
            north_east: Point {
                latitude: a.latitude.max(b.latitude),
                longitude: a.longitude.max(b.longitude),
            },
        }
    }

    /// The smallest area that contains all of these points; a single point if there are none.
    pub(crate) fn around(points: &[Point]) -> Self {
        let first = points.first().copied().unwrap_or(Point {
            latitude: 0,
            longitude: 0,
        });
        let whole = Self::between(first, first);
        points.iter().fold(whole, |whole, &point| Self {
            south_west: Self::between(whole.south_west, point).south_west,
            north_east: Self::between(whole.north_east, point).north_east,
        })
    }

    /// The parts on either side of `point`; both include the line through the point.
    pub(crate) fn cut(self, axis: Axis, point: Point) -> (Self, Self) {
        let (mut low, mut high) = (self, self);
        match axis {
            Axis::Latitude => {
                low.north_east.latitude = point.latitude;
                high.south_west.latitude = point.latitude;
            }
            Axis::Longitude => {
                low.north_east.longitude = point.longitude;
                high.south_west.longitude = point.longitude;
            }
        }
        (low, high)
    }

    /// Its least and its greatest coordinate.
    pub(crate) fn along(&self, axis: Axis) -> (i32, i32) {
        (self.south_west.along(axis), self.north_east.along(axis))
    }

    /// Whether all of `other` lies inside.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.contains(other.south_west) && self.contains(other.north_east)
    }

    pub(crate) fn contains(&self, point: Point) -> bool {
        let Self {
            south_west,
            north_east,
        } = self;
        // Not &&, which would be two branches that a scan of many points cannot predict.
        (south_west.latitude..=north_east.latitude).contains(&point.latitude)
            & (south_west.longitude..=north_east.longitude).contains(&point.longitude)
    }
}

#[cfg(test)]
mod tests {
    use super::{Point, Rectangle, Waypoint};

    fn point(latitude: i32, longitude: i32) -> Point {
        Point::new(latitude, longitude).expect("on the globe")
    }

    #[test]
    fn a_point_lies_on_the_globe() {
        assert!(Point::new(900_000_000, -1_800_000_000).is_ok());
        let error = Point::new(-900_000_001, 0).expect_err("beyond the pole");
        assert_eq!(error.coordinate, "latitude");
        let error = Point::new(0, i32::MAX).expect_err("past the antimeridian");
        assert_eq!(
            error.to_string(),
            "2147483647 is outside -1800000000..1800000000 (units of 1e-7 degree)"
        );
    }

    #[test]
    fn distances_are_great_circles() {
        let waypoint = |latitude, longitude| Waypoint::from(point(latitude, longitude));
        let pole = waypoint(900_000_000, 0);
        assert_eq!(
            pole.distance_to(waypoint(900_000_000, 1_000_000_000))
                .round(),
            0.0
        );
        let quarter = std::f64::consts::FRAC_PI_2 * 6_371_000.0;
        assert_eq!(pole.distance_to(waypoint(0, 123)).round(), quarter.round());
        // Every pair of antipodes is half a great circle apart, however the sines round.
        for latitude in (-900_000_000..=900_000_000).step_by(1_234_567) {
            let there =
                waypoint(latitude, 300_000_000).distance_to(waypoint(-latitude, -1_500_000_000));
            assert!(
                (there - 2.0 * quarter).abs() < 1.0,
                "{there} m at latitude {latitude}"
            );
        }
    }

    #[test]
    fn a_rectangle_includes_its_edges_whichever_way_round_it_is_given() {
        for (a, b) in [
            ((1, 2), (3, 4)),
            ((3, 4), (1, 2)),
            ((1, 4), (3, 2)),
            ((3, 2), (1, 4)),
        ] {
            let rectangle = Rectangle::between(point(a.0, a.1), point(b.0, b.1));
            for inside in [(1, 2), (3, 4), (1, 4), (2, 3)] {
                assert!(rectangle.contains(point(inside.0, inside.1)), "{inside:?}");
            }
            for outside in [(0, 3), (4, 3), (2, 1), (2, 5)] {
                assert!(
                    !rectangle.contains(point(outside.0, outside.1)),
                    "{outside:?}"
                );
            }
        }
    }
}
