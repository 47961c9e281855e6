//! Chats on two servers while their store is killed again and again, and what is left of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use proto::routeguide::{RouteNote, route_guide_client::RouteGuideClient};
use samples::redis::{DURABLE, Redis};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use super::{
    checker::{Breach, Place, Sent, check},
    heard::Heard,
    start,
};
use crate::measure::measurement::Measurement;

const BETWEEN_KILLS: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_millis(500);
const STREAMS: usize = 64;

/// How many shared places there are at a time, and for how long. More notes at each would only make
/// every reply longer.
const PLACES: i32 = 64;
const PLACES_LAST: Duration = Duration::from_secs(2);

/// How many notes a chat leaves at shared places, each with one at a place of its own.
const PAIRS: usize = 4;

/// What a client did.
#[derive(Debug, Default)]
struct Done {
    sent: Vec<Sent<std::time::Instant>>,
    chats: usize,
    unavailable: usize,
    other: Vec<Status>,
}

pub(crate) async fn history(kills: u32) -> Option<Measurement> {
    let mut redis = Redis::start(DURABLE).await?;
    let url = redis.url();
    let roomy = ["--notes-per-point", "1000000"];
    let servers = [
        start(Some(&url), &roomy).await,
        start(Some(&url), &roomy).await,
    ];

    let began = Instant::now();
    let lasts = BETWEEN_KILLS * kills;
    let chats = Arc::new(AtomicU32::new(0));
    let mut clients = JoinSet::new();
    for server in servers.iter().cycle().take(STREAMS) {
        clients.spawn(client(server.channel(), chats.clone(), began, lasts));
    }
    let mut cuts = 0;
    for nth in 0..kills {
        cuts += cut_until(&redis, began + BETWEEN_KILLS * (2 * nth + 1) / 2).await;
        redis.kill().await;
        sleep(AWAY).await;
        redis.restart().await;
    }
    let mut done = Done::default();
    for one in clients.join_all().await {
        done.sent.extend(one.sent);
        done.chats += one.chats;
        done.unavailable += one.unavailable;
        done.other.extend(one.other);
    }
    let lists = lists(&redis).await;
    let measurement = measurement(&done, &lists);
    Some(measurement.note(format!("{kills} kills, {cuts} connections cut in between")))
}

/// Has the store close its connections now and then, with answers on their way: only so are notes tried
/// again that are there already. After a kill the store is not back in time for that.
async fn cut_until(redis: &Redis, end: Instant) -> u32 {
    const EVERY: Duration = Duration::from_millis(100);
    let mut cut = 0;
    while Instant::now() + EVERY < end {
        sleep(EVERY).await;
        cut += redis
            .ask::<u32>(&["CLIENT", "KILL", "TYPE", "normal"])
            .await;
    }
    sleep_until(end).await;
    cut
}

fn measurement(done: &Done, lists: &BTreeMap<Place, Vec<String>>) -> Measurement {
    let breaches = check(&done.sent, lists);
    let acknowledged = (done.sent.iter()).filter(|note| note.acknowledged.is_some());
    let longest = lists.values().map(Vec::len).max().unwrap_or(0);
    Measurement::new()
        .goal(breaches.is_empty(), told(&breaches))
        .goal(
            done.other.is_empty(),
            format!(
                "{} of {} chats cut short, {} other than UNAVAILABLE{}",
                done.unavailable + done.other.len(),
                done.chats,
                done.other.len(),
                (done.other.first()).map_or(String::new(), |status| format!(" ({status})"))
            ),
        )
        .note(format!(
            "{} notes acknowledged of {} sent, {} there",
            acknowledged.count(),
            done.sent.len(),
            lists.values().map(Vec::len).sum::<usize>()
        ))
        .note(format!("{longest} at most at a point"))
}

/// How often each promise was broken, and the first note that shows it.
fn told(breaches: &[Breach]) -> String {
    let mut by_promise = BTreeMap::new();
    for breach in breaches {
        let (count, _) = by_promise
            .entry(breach.promise)
            .or_insert((0, &breach.text));
        *count += 1;
    }
    if by_promise.is_empty() {
        return "0 lost, twice, unknown or out of order".to_owned();
    }
    let told = by_promise
        .iter()
        .map(|(promise, (count, first))| format!("{count} {promise} (first {first})"));
    told.collect::<Vec<_>>().join(", ")
}

/// Chats, one after the other.
async fn client(channel: Channel, chats: Arc<AtomicU32>, began: Instant, lasts: Duration) -> Done {
    let mut client = RouteGuideClient::new(channel);
    let mut done = Done::default();
    while began.elapsed() < lasts {
        let mut heard = Heard::new(chats.fetch_add(1, Relaxed));
        let outcome = chat(&mut client, &mut heard, began).await;
        done.chats += 1;
        done.sent.extend(heard.into_sent());
        let Err(status) = outcome else { continue };
        match status.code() {
            Code::Unavailable => done.unavailable += 1,
            _ => done.other.push(status),
        }
        // Short beside what the server asks for: more chats are to meet an outage.
        sleep(Duration::from_millis(20)).await;
    }
    done
}

async fn chat(
    client: &mut RouteGuideClient<Channel>,
    heard: &mut Heard,
    began: Instant,
) -> Result<(), Status> {
    let (requests, notes) = mpsc::unbounded_channel();
    let mut request = Request::new(UnboundedReceiverStream::new(notes));
    request.set_timeout(Duration::from_secs(5));
    let mut replies = client.route_chat(request).await?.into_inner();
    // Two places of its own, and a note at each. Those that follow bring some back for certain, which
    // tells that all before them have been replied to.
    let own = [1, 2].map(|nth| (-1 - heard.chat as i32, nth));
    for place in own {
        say(&requests, heard.send(place));
    }
    let epoch = began.elapsed().div_duration_f64(PLACES_LAST) as i32;
    // Some of its notes are at the same place.
    let shared: [Place; 2] = std::array::from_fn(|_| (epoch, rand::random_range(0..PLACES)));
    for pair in 0..PAIRS {
        say(&requests, heard.send(shared[pair % shared.len()]));
        say(&requests, heard.send(own[pair % own.len()]));
        while heard.for_the_last() < 1 + pair / own.len() {
            let reply = reply(&mut replies).await?;
            take(heard, reply)?;
        }
    }
    drop(requests);
    while let Some(reply) = replies.message().await? {
        take(heard, reply)?;
    }
    heard.end();
    Ok(())
}

fn say(requests: &mpsc::UnboundedSender<RouteNote>, note: RouteNote) {
    // A chat that has ended says so to whoever reads it.
    let _ = requests.send(note);
}

async fn reply(replies: &mut Streaming<RouteNote>) -> Result<RouteNote, Status> {
    let reply = replies.message().await?;
    reply.ok_or_else(|| Status::data_loss("ended before its client did"))
}

fn take(heard: &mut Heard, reply: RouteNote) -> Result<(), Status> {
    if heard.reply(reply) {
        return Ok(());
    }
    Err(Status::data_loss("a reply to no note"))
}

/// The notes at each place, as they are in the store.
async fn lists(redis: &Redis) -> BTreeMap<Place, Vec<String>> {
    let mut connection = redis.connect().await;
    let keys: Vec<String> = redis.ask(&["KEYS", "notes:*"]).await;
    let mut lists = BTreeMap::new();
    // But for what the servers themselves ask the store with.
    for key in keys.iter().filter(|key| !key.starts_with("notes:probe")) {
        let coordinates = key["notes:".len()..].split_once(',');
        let (latitude, longitude) = coordinates.expect("two coordinates");
        let degrees = |text: &str| text.parse().expect("a coordinate");
        let place = (degrees(latitude), degrees(longitude));
        let mut range = redis::cmd("LRANGE");
        range.arg(key).arg(0).arg(-1);
        let list: Vec<String> = range.query_async(&mut connection).await.expect("a list");
        let texts = list.iter().map(|element| element[16..].to_owned());
        lists.insert(place, texts.collect());
    }
    lists
}
