//! Hours of ordinary work.

use std::time::Duration;

use channel::{Channel, Settings, Target};
use proto::routeguide::{Point, Rectangle, RouteNote, route_guide_client::RouteGuideClient};
use tokio::{
    join,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Request, Status};

use crate::measure::{
    measurement::{Measurement, percentile, time},
    server_under_test::{ROUTE_GUIDE, ServerUnderTest, Setup, Side},
};

const CLIENTS: u32 = 8;

pub(crate) async fn soak(side: Side, lasts: Duration) -> Measurement {
    // Even a short soak has connections that grow old.
    let setup = Setup {
        ours: &["--max-connection-age", "1m"],
        plain: &["--age", "60", "--grace", "60"],
        ..ROUTE_GUIDE
    };
    let subject = ServerUnderTest::start(side, setup).await;
    // Long enough to tell what the peak is.
    let trial = (lasts / 2).min(Duration::from_secs(10));
    let peak = work(&subject, trial, Duration::ZERO).await;
    // Half the peak: each client takes twice as long for a call.
    let pace = 2 * CLIENTS * trial / peak.calls.max(1);

    let (mut done, slope) = join!(work(&subject, lasts, pace), rss_slope(&subject, lasts));
    let [first, .., last] = &mut done.quarters;
    let (first, last) = (percentile(first, 0.99), percentile(last, 0.99));
    let both = first.zip(last);
    let drift = both.map_or(f64::NAN, |(first, last)| {
        last.div_duration_f64(first) * 100.0 - 100.0
    });
    // Minutes are too short to tell a slope from a step, or a drift from noise.
    let tells = lasts >= Duration::from_secs(30 * 60);
    Measurement::new()
        .goal(
            done.failed == 0,
            format!("{} lost of {}", done.failed, done.calls),
        )
        .goal(!tells || slope <= 1.0, format!("RSS {slope:+.2} MB/h"))
        .goal(
            !tells || drift <= 10.0,
            format!("p99 {} → {}, {drift:+.0} %", time(first), time(last)),
        )
        .note(format!(
            "{:.1} min, {:.0} calls/s",
            lasts.as_secs_f64() / 60.0,
            f64::from(done.calls) / lasts.as_secs_f64()
        ))
}

#[derive(Debug, Default)]
struct Done {
    calls: u32,
    failed: u32,
    quarters: [Vec<Duration>; 4],
}

/// Calls of all four kinds from several clients, each a call every `pace`, on the suite's own channel:
/// tonic's gives a call up that comes to a connection just as that has been told to go.
async fn work(subject: &ServerUnderTest, lasts: Duration, pace: Duration) -> Done {
    let mut clients = JoinSet::new();
    for nth in 0..CLIENTS {
        let first = Instant::now() + pace * nth / CLIENTS;
        let target = Target::parse(&subject.addr.to_string(), false).expect("an address");
        let channel = Channel::new(target, Settings::default()).expect("no files to read");
        clients.spawn(client(channel, first, lasts, pace));
    }
    clients
        .join_all()
        .await
        .into_iter()
        .fold(Done::default(), |mut all, one| {
            all.calls += one.calls;
            all.failed += one.failed;
            for (all, one) in all.quarters.iter_mut().zip(one.quarters) {
                all.extend(one);
            }
            all
        })
}

async fn client(channel: Channel, first: Instant, lasts: Duration, pace: Duration) -> Done {
    let mut client = RouteGuideClient::new(channel);
    let mut done = Done::default();
    loop {
        let due = first + pace * done.calls;
        if due.max(Instant::now()) >= first + lasts {
            return done;
        }
        sleep_until(due).await;
        let began = Instant::now();
        if call(&mut client, done.calls % 4).await.is_err() {
            done.failed += 1;
        }
        let quarter = (began - first).div_duration_f64(lasts) * 4.0;
        done.quarters[(quarter as usize).min(3)].push(began.elapsed());
        done.calls += 1;
    }
}

async fn call(client: &mut RouteGuideClient<Channel>, kind: u32) -> Result<(), Status> {
    fn request<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(5));
        request
    }
    let place = Point {
        latitude: 409_146_138,
        longitude: -746_188_906,
    };
    match kind {
        0 => _ = client.get_feature(request(place)).await?,
        1 => {
            let (lo, hi) = (
                Some(place),
                Some(Point {
                    latitude: 407_838_351,
                    longitude: -746_143_763,
                }),
            );
            let mut features = client
                .list_features(request(Rectangle { lo, hi }))
                .await?
                .into_inner();
            while features.message().await?.is_some() {}
        }
        2 => {
            _ = client
                .record_route(request(tokio_stream::iter([place; 10])))
                .await?
        }
        _ => {
            let note = RouteNote {
                location: Some(place),
                message: "soak".into(),
            };
            let notes = tokio_stream::iter(vec![note; 2]);
            let mut notes = client.route_chat(request(notes)).await?.into_inner();
            while notes.message().await?.is_some() {}
        }
    }
    Ok(())
}

/// The slope of the line that fits the resident memory best, in MB an hour.
async fn rss_slope(subject: &ServerUnderTest, lasts: Duration) -> f64 {
    let began = Instant::now();
    let mut points = Vec::new();
    while began.elapsed() < lasts {
        points.push((
            began.elapsed().as_secs_f64() / 3600.0,
            subject.rss() as f64 / 1e6,
        ));
        sleep(Duration::from_secs(1)).await;
    }
    let count = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (
            above + (point.0 - x) * (point.1 - y),
            below + (point.0 - x).powi(2),
        )
    });
    above / below
}
