//! A k-d tree that never changes: which places a rectangle holds, at a cost that grows with the answer.

use crate::{
    feature_id::FeatureId,
    point::{Axis, Point, Rectangle},
};

/// Places in the order of a balanced k-d tree. It has no nodes: of any part of it, the place in the
/// middle divides the others by one coordinate, and the parts on its two sides are divided likewise by
/// the other coordinate.
#[derive(Debug)]
pub(crate) struct Tree {
    points: Vec<Point>,
    /// Beside the points, because a part that lies inside the area is taken over without a look at them.
    ids: Vec<FeatureId>,
    bounds: Rectangle,
}

/// As many places are looked at quicker one by one.
const LEAF: usize = 32;

impl Tree {
    /// A tree over these points, each of which has its place in `points` as its id.
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

    /// The ids of the places inside `area`, in no order; None if there are more than `most`.
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

/// Puts the middle of `places`, and of every part of it, where it belongs. Each step halves, so that
/// even 2³² places take no more than 32 calls within calls; likewise in [`Search::visit`].
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
    /// Looks through a part of the tree, all of which lies within `bounds`.
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
                // The ids lie elsewhere, and most of these are not asked for.
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

    /// Whether a place of a leaf is inside cannot be foreseen, so this does not branch on it.
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
