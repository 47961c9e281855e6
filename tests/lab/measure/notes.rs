//! Notes that every server sees: what is promised of RouteChat, on Redis and in memory.

use std::collections::HashMap;

use proto::routeguide::{Point, RouteNote};
use samples::redis::Redis;

use crate::measure::{
    measurement::Measurement,
    server_under_test::{ROUTE_GUIDE, ServerUnderTest, Setup, Side},
};

mod callers;
mod checker;
mod health;
mod heard;
mod history;
mod memory;
mod outage;
mod slow_reader;
mod speed;

pub(crate) use {
    history::history, memory::memory, outage::outage, slow_reader::slow_reader, speed::speed,
};

/// What is measured of ours alone; nothing comes of it without a `redis-server`.
pub(crate) async fn of_ours(
    side: Side,
    measured: impl Future<Output = Option<Measurement>>,
) -> Measurement {
    if side == Side::Plain {
        return Measurement::new().note("n/a: keeps no notes");
    }
    let measurement = measured.await;
    measurement.unwrap_or_else(|| Measurement::new().goal(false, "redis-server is not installed"))
}

/// A server with these flags whose notes are at this URL, or in its memory.
async fn start(url: Option<&str>, flags: &[&str]) -> ServerUnderTest {
    let url = url.map(|url| ["--notes-url", url]);
    let flags = [url.as_ref().map_or(&[][..], |url| url), flags].concat();
    let setup = Setup {
        ours: &flags,
        ..ROUTE_GUIDE
    };
    ServerUnderTest::start(Side::Ours, setup).await
}

fn note((latitude, longitude): (i32, i32), message: impl Into<String>) -> RouteNote {
    RouteNote {
        location: Some(Point {
            latitude,
            longitude,
        }),
        message: message.into(),
    }
}

/// How often each command has come to the store, and failed.
async fn commands(redis: &Redis) -> HashMap<String, [u64; 2]> {
    let info: String = redis.ask(&["INFO", "commandstats"]).await;
    let number = |fields: &str, name: &str| {
        let mut fields = fields.split(',');
        let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.expect(name).parse().expect("a number")
    };
    let commands = info.lines().filter_map(|line| {
        let (command, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let failed = number(fields, "rejected_calls") + number(fields, "failed_calls");
        Some((command.to_owned(), [number(fields, "calls"), failed]))
    });
    commands.collect()
}
