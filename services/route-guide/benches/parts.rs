//! What the logic costs by itself: `cargo bench -p route-guide`. `LARGE=1` adds ten million places.
//!
//! The modules are included as they stand, because they are private and know nothing of the server.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "of an included module, not all is used, nor are its tests"
)]

use std::{
    env,
    hint::black_box,
    sync::{Arc, LazyLock},
};

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rstar::{AABB, RTree, primitives::GeomWithData};

#[path = "../src/feature_id.rs"]
mod feature_id;
#[path = "../src/features_file.rs"]
mod features_file;
#[path = "../src/places.rs"]
mod places;
#[path = "../src/point.rs"]
mod point;
#[path = "../src/route.rs"]
mod route;
#[path = "../src/tree.rs"]
mod tree;

use places::Places;
use point::{Point, Rectangle};
use route::Route;

fn main() {
    divan::main();
}

const SIZES: &[usize] = &[10_000, 1_000_000, 10_000_000];

/// How many places there are, and how many of them a search finds, about.
const SEARCHES: &[(usize, usize)] = &[
    (10_000, 10),
    (1_000_000, 10),
    (10_000_000, 10),
    (10_000, 1000),
    (1_000_000, 1000),
    (10_000_000, 1000),
];

/// As many are searched in turn, and a sample is a search of each: what one finds in the caches is what the
/// others left there.
const AREAS: usize = 500;

/// Uniform places, in the forms that are compared.
struct Map {
    points: Vec<Point>,
    places: Arc<Places>,
    rstar: RTree<GeomWithData<[i32; 2], u32>>,
}

static MAPS: [LazyLock<Option<Map>>; 3] = [
    LazyLock::new(|| Some(Map::of(SIZES[0]))),
    LazyLock::new(|| Some(Map::of(SIZES[1]))),
    LazyLock::new(|| env::var_os("LARGE").map(|_| Map::of(SIZES[2]))),
];

fn map(size: usize) -> Option<&'static Map> {
    let index = SIZES.iter().position(|known| *known == size)?;
    MAPS[index].as_ref()
}

impl Map {
    fn of(size: usize) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let mut places = Places::default();
        let mut points = Vec::new();
        while points.len() < size {
            let point = anywhere(&mut random);
            if places.push(point).is_ok() {
                points.push(point);
            }
        }
        places.index();
        let entry = |(&point, id): (&Point, u32)| {
            GeomWithData::new([point.latitude(), point.longitude()], id)
        };
        Self {
            rstar: RTree::bulk_load(points.iter().zip(0..).map(entry).collect()),
            places: Arc::new(places),
            points,
        }
    }

    /// Opposite corners of areas around places that hold `many` of all, about.
    fn areas(&self, many: usize) -> Vec<(Point, Point)> {
        let share = (many as f64 / self.points.len() as f64).sqrt() / 2.0;
        let corner = |point: Point, sign: f64| {
            let moved = |e7: i32, limit: f64| {
                (f64::from(e7) + sign * share * 2.0 * limit).clamp(-limit, limit) as i32
            };
            Point::new(moved(point.latitude(), 9e8), moved(point.longitude(), 18e8))
                .expect("on the globe")
        };
        let step = self.points.len() / AREAS;
        let around = self.points.iter().step_by(step);
        around
            .map(|&point| (corner(point, -1.0), corner(point, 1.0)))
            .collect()
    }
}

fn anywhere(random: &mut StdRng) -> Point {
    let latitude = random.random_range(-900_000_000..=900_000_000);
    let longitude = random.random_range(-1_800_000_000..=1_800_000_000);
    Point::new(latitude, longitude).expect("on the globe")
}

/// Measures `search` for one area after the other.
fn search(
    bencher: Bencher<'_, '_>,
    (size, many): (usize, usize),
    search: impl Fn(&'static Map, Point, Point) -> usize,
) {
    let Some(map) = map(size) else { return };
    let areas = map.areas(many);
    let mut next = areas.iter().cycle();
    bencher.bench_local(|| next.next().map(|&(a, b)| search(map, a, b)));
}

/// The numbers of the places in an area, in the order of the file.
#[divan::bench(args = SEARCHES, sample_count = 20, sample_size = AREAS as u32)]
fn inside(bencher: Bencher<'_, '_>, case: (usize, usize)) {
    search(bencher, case, |map, a, b| {
        map.places
            .inside(Rectangle::between(a, b))
            .map(black_box)
            .count()
    });
}

#[divan::bench(args = SEARCHES, sample_count = 20, sample_size = AREAS as u32)]
fn inside_by_rstar(bencher: Bencher<'_, '_>, case: (usize, usize)) {
    search(bencher, case, |map, a, b| {
        let corners = [a, b].map(|point| [point.latitude(), point.longitude()]);
        let area = AABB::from_corners(corners[0], corners[1]);
        let mut found: Vec<u32> = map
            .rstar
            .locate_in_envelope(area)
            .map(|place| place.data)
            .collect();
        found.sort_unstable();
        found.into_iter().map(black_box).count()
    });
}

#[divan::bench(args = SEARCHES, sample_count = 20, sample_size = AREAS as u32)]
fn inside_by_a_scan(bencher: Bencher<'_, '_>, case: (usize, usize)) {
    search(bencher, case, |map, a, b| {
        let area = Rectangle::between(a, b);
        let inside = map.points.iter().filter(|&&point| area.contains(point));
        inside.map(black_box).count()
    });
}

/// The number of the place at a point; every fourth has none.
#[divan::bench(args = SIZES)]
fn at(bencher: Bencher<'_, '_>, size: usize) {
    let Some(map) = map(size) else { return };
    let mut random = StdRng::seed_from_u64(2);
    let asked: Vec<Point> = (0..65_536)
        .map(|index| match index % 4 {
            0 => anywhere(&mut random),
            _ => map.points[random.random_range(..size)],
        })
        .collect();
    let mut next = asked.iter().cycle();
    bencher.bench_local(|| next.next().and_then(|&point| map.places.at(point)));
}

#[divan::bench(args = SIZES, sample_count = 3)]
fn index(bencher: Bencher<'_, '_>, size: usize) {
    let Some(map) = map(size) else { return };
    let bencher = bencher.counter(ItemsCount::new(size));
    bencher.bench_local(|| tree::Tree::over(&map.points));
}

/// Reading a file of 10 000 entries, without what is made of them.
#[divan::bench(args = ["lines", "array"])]
fn read(bencher: Bencher<'_, '_>, form: &str) {
    let mut random = StdRng::seed_from_u64(3);
    let entries: Vec<String> = (0..10_000)
        .map(|index| {
            let (latitude, longitude) =
                (anywhere(&mut random).latitude(), anywhere(&mut random).longitude());
            format!(
                r#"{{"location":{{"latitude":{latitude},"longitude":{longitude}}},"name":"{index} Imaginary Avenue, Somewhere, NJ 07945, USA"}}"#
            )
        })
        .collect();
    let json = match form {
        "lines" => entries.join("\n"),
        _ => format!("[{}]", entries.join(",")),
    };
    let bencher = bencher
        .counter(BytesCount::of_str(&json))
        .counter(ItemsCount::new(entries.len()));
    bencher.bench_local(|| {
        features_file::read(json.as_bytes(), |point, name| {
            black_box((point, name));
            Ok(())
        })
    });
}

/// A route of 10 000 points a degree apart, half of them known.
#[divan::bench]
fn record_route(bencher: Bencher<'_, '_>) {
    let map = map(SIZES[0]).expect("a small map");
    let way: Vec<Point> = (0..10_000)
        .map(|index| match index % 2 {
            0 => map.points[index],
            _ => Point::new(400_000_000 + index as i32, -740_000_000).expect("on the globe"),
        })
        .collect();
    let bencher = bencher.counter(ItemsCount::new(way.len()));
    bencher.bench_local(|| {
        let mut route = Route::default();
        for &point in black_box(&way) {
            route.pass(point, map.places.at(point).is_some());
        }
        route
    });
}
