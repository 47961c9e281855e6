//! An immutable k-d tree: finds the places in a rectangle, at a cost that grows with the result.

use crate::{
    feature_id::FeatureId,
    point::{Axis, Point, Rectangle},
};

/// Places in the order of a balanced k-d tree, without explicit nodes. In any part, the place in the middle
/// divides the others by one coordinate. The parts on its two sides are divided in the same way by the other
/// coordinate.
#[derive(Debug)]
pub(crate) struct Tree {
    points: Vec<Point>,
    /// Stored separately from the points, because a part inside the area is copied without reading them.
    ids: Vec<FeatureId>,
    bounds: Rectangle,
}

/// Up to so many places, a scan is faster.
const LEAF: usize = 32;

impl Tree {
    /// A tree over these points; the id of each is its index in `points`.
    pub(crate) fn over(points: &[Point]) -> Self {
        let ids = (0..).map(FeatureId);
        let mut places: Vec<(Point, FeatureId)> = points.iter().copied().zip(ids).collect();
        divide(&mut places, Axis::Latitude);
        Self {
            points: places.iter().map(|&(point, _)| point).collect(),
            ids: places.iter().map(|&(_, id)| id).collect(),
            bounds: Rectangle::around(points),
        }
    }

    /// The ids of the places inside `area`, unordered; None if there are more than `most`.
    pub(crate) fn inside(&self, area: Rectangle, most: usize) -> Option<Vec<FeatureId>> {
        let mut search = Search {
            area,
            most,
            found: Vec::with_capacity(64),
        };
        let all = Part {
            points: &self.points,
            ids: &self.ids,
        };
        search.visit(all, self.bounds, Axis::Latitude);
        (search.found.len() <= most).then_some(search.found)
    }
}

/// Partitions `places` around its middle, and each part likewise. Each step halves the size, so even 2³²
/// places need a recursion depth of at most 32; the same is true of [`Search::visit`].
fn divide(places: &mut [(Point, FeatureId)], axis: Axis) {
    if places.len() <= LEAF {
        return;
    }
    let middle = places.len() / 2;
    let (before, _, after) =
        places.select_nth_unstable_by_key(middle, |(point, _)| point.along(axis));
    divide(before, axis.other());
    divide(after, axis.other());
}

/// A part of a tree.
#[derive(Clone, Copy)]
struct Part<'a> {
    points: &'a [Point],
    ids: &'a [FeatureId],
}

impl Part<'_> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let (points_before, points) = self.points.split_at(middle);
        let (ids_before, ids) = self.ids.split_at(middle);
        (
            Self {
                points: points_before,
                ids: ids_before,
            },
            Self { points, ids },
        )
    }
}

struct Search {
    area: Rectangle,
    most: usize,
    found: Vec<FeatureId>,
}

impl Search {
    /// Searches a part of the tree, all of which lies within `bounds`.
    fn visit(&mut self, part: Part<'_>, bounds: Rectangle, axis: Axis) {
        let Some(room) = self.most.checked_sub(self.found.len()) else {
            return;
        };
        if self.area.covers(&bounds) {
            let enough = part.ids.len().min(room + 1);
            self.found.extend_from_slice(&part.ids[..enough]);
        } else if part.ids.len() <= LEAF {
            self.look_at(part);
        } else {
            let (before, rest) = part.split_at(part.ids.len() / 2);
            let (middle, after) = rest.split_at(1);
            for (point, id) in middle.points.iter().copied().zip(middle.ids) {
                // The ids are stored elsewhere, and most of them are not in the area.
                if self.area.contains(point) {
                    self.found.push(*id);
                }
                let (low, high) = bounds.cut(axis, point);
                let (lowest, highest) = self.area.along(axis);
                if lowest <= point.along(axis) {
                    self.visit(before, low, axis.other());
                }
                if point.along(axis) <= highest {
                    self.visit(after, high, axis.other());
                }
            }
        }
    }

    /// Whether a place of a leaf is inside is unpredictable, so this does not branch on it.
    fn look_at(&mut self, leaf: Part<'_>) {
        let mut inside = [FeatureId(0); LEAF];
        let mut many = 0;
        for (&point, &id) in leaf.points.iter().zip(leaf.ids) {
            inside[many] = id;
            many += usize::from(self.area.contains(point));
        }
        self.found.extend_from_slice(&inside[..many]);
    }
}
