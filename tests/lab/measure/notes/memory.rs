//! Far more notes than the memory that is set aside for them.

use std::{future::poll_fn, net::SocketAddr, time::Instant};

use bytes::Bytes;
use h2::SendStream;
use harness::framed;
use tokio::task::JoinSet;

use super::{note, start};
use crate::measure::{
    client::{Bare, code},
    measurement::Measurement,
};

const CHATS: i32 = 8;
const NOTES_PER_POINT: i32 = 10;
/// Points that a chat goes over in turn, before it leaves them for ever.
const BLOCK: i32 = 1000;

/// `NOTES_MEMORY` by default.
const CAP: f64 = (64 * 1024 * 1024) as f64;
/// For each chat that is behind: the 1 MiB of its connection that is not read yet, and as much again
/// that the allocator keeps.
const BESIDES: f64 = CHATS as f64 * (2 * 1024 * 1024) as f64;

pub(crate) async fn memory(points: i32) -> Option<Measurement> {
    let server = start(None, &[]).await;
    // What serving itself takes is not to be measured.
    leave(server.addr, 0..1).await;
    let before = server.rss();
    let began = Instant::now();
    let mut chats = JoinSet::new();
    let each = points / CHATS;
    for nth in 0..CHATS {
        chats.spawn(leave(server.addr, nth * each..(nth + 1) * each));
    }
    let codes = chats.join_all().await;
    let took = began.elapsed();
    let growth = |bytes: u64| bytes as f64 - before as f64;
    let (peak, end) = (growth(server.peak_rss()), growth(server.rss()));
    let notes = points * NOTES_PER_POINT;
    Some(
        Measurement::new()
            .goal(
                peak <= CAP + BESIDES,
                format!(
                    "RSS {:+.1} MB at most, {:+.1} MB in the end, of {:.1} + {:.1}",
                    peak / 1e6,
                    end / 1e6,
                    CAP / 1e6,
                    BESIDES / 1e6
                ),
            )
            .goal(
                codes.iter().all(|code| code == "0"),
                format!(
                    "{notes} notes on {points} points: status {}",
                    codes.join(", ")
                ),
            )
            .note(format!(
                "{:.0} notes/s",
                f64::from(notes) / took.as_secs_f64()
            )),
    )
}

/// Leaves the notes at these points in one chat, as fast as they are taken: the status that it ends with.
async fn leave(addr: SocketAddr, points: std::ops::Range<i32>) -> String {
    let mut client = Bare::connect(addr).await;
    let call = client.call("/routeguide.RouteGuide/RouteChat", None).await;
    let call = call.expect("sent");
    let mut request = call.request;
    let said = async move {
        for block in points.clone().step_by(BLOCK as usize) {
            for _ in 0..NOTES_PER_POINT {
                say(&mut request, block..points.end.min(block + BLOCK)).await?;
            }
        }
        request.send_data(Bytes::new(), true)
    };
    // Replies are read meanwhile, or neither side would go on.
    let (said, code) = tokio::join!(said, code(call.answer));
    said.map_or_else(
        |error| error.to_string(),
        |()| code.unwrap_or_else(|error| error.to_string()),
    )
}

/// One note at each point, none as long as the next.
async fn say(
    request: &mut SendStream<Bytes>,
    points: std::ops::Range<i32>,
) -> Result<(), h2::Error> {
    let text = "x".repeat(64);
    let notes = points.map(|nth| framed(&note((nth, nth), &text[..nth as usize % 64])));
    let mut notes = Bytes::from(notes.collect::<Vec<_>>().concat());
    while !notes.is_empty() {
        request.reserve_capacity(notes.len());
        let Some(capacity) = poll_fn(|context| request.poll_capacity(context)).await else {
            // The answer says why.
            return Ok(());
        };
        request.send_data(notes.split_to(capacity?.min(notes.len())), false)?;
    }
    Ok(())
}
