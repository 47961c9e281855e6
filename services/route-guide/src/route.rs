//! The sum of a route, point by point, in constant memory.

use std::time::Duration;

use crate::point::{Point, Waypoint};

/// A route in progress. Its counters saturate instead of wrapping.
#[derive(Debug, Default)]
pub(crate) struct Route {
    points: i32,
    features: i32,
    metres: f64,
    last: Option<Waypoint>,
}

/// The summary of a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) points: i32,
    pub(crate) features: i32,
    pub(crate) metres: i32,
    pub(crate) seconds: i32,
}

impl Route {
    /// Adds `point`; `known` says whether it is in the database.
    pub(crate) fn pass(&mut self, point: Point, known: bool) {
        self.points = self.points.saturating_add(1);
        self.features = self.features.saturating_add(known.into());
        let here = Waypoint::from(point);
        if let Some(last) = self.last.replace(here) {
            self.metres += last.distance_to(here);
        }
    }

    /// The summary of a route that took `elapsed`.
    pub(crate) fn summary(&self, elapsed: Duration) -> Summary {
        Summary {
            points: self.points,
            features: self.features,
            // From f64, `as` truncates and saturates.
            metres: self.metres as i32,
            seconds: elapsed.as_secs().try_into().unwrap_or(i32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Route, Summary};
    use crate::point::Point;

    #[test]
    fn a_route_without_a_point_is_all_zeros() {
        let zeros = Summary {
            points: 0,
            features: 0,
            metres: 0,
            seconds: 0,
        };
        assert_eq!(Route::default().summary(Duration::from_millis(999)), zeros);
    }

    #[test]
    fn counters_stop_instead_of_wrapping() {
        let mut route = Route {
            points: i32::MAX,
            features: i32::MAX,
            metres: 1e300,
            last: None,
        };
        route.pass(Point::new(1, 1).expect("on the globe"), true);
        let most = Summary {
            points: i32::MAX,
            features: i32::MAX,
            metres: i32::MAX,
            seconds: i32::MAX,
        };
        assert_eq!(route.summary(Duration::MAX), most);
    }
}
