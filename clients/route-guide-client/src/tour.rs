//! Every method once, as the public RouteGuide clients call them.

use cli::Failure;
use proto::routeguide::{Point, RouteNote};
use rand::seq::IndexedRandom as _;

use crate::{Guide, place};

/// Calls every method and prints the exchange under the headings of the public client.
pub(crate) async fn tour(guide: &mut Guide<'_, '_>) -> Result<(), Failure> {
    let point = |latitude, longitude| Point {
        latitude,
        longitude,
    };

    guide.printer.heading("GetFeature")?;
    guide.get_feature(point(409_146_138, -746_188_906)).await?;
    guide.get_feature(point(0, 0)).await?;

    guide.printer.heading("ListFeatures")?;
    guide
        .printer
        .say("Looking for features between 40, -75 and 42, -73")?;
    let (lo, hi) = (
        point(400_000_000, -750_000_000),
        point(420_000_000, -730_000_000),
    );
    let listed = guide.list_features(lo, hi).await?;

    guide.printer.heading("RecordRoute")?;
    let listed: Vec<_> = listed
        .iter()
        .filter_map(|feature| feature.location)
        .collect();
    let route: Vec<_> = (0..10)
        .filter_map(|_| listed.choose(&mut rand::rng()).copied())
        .collect();
    for point in &route {
        guide
            .printer
            .say(&format!("Visiting point {}", place(&Some(*point))))?;
    }
    guide.record_route(tokio_stream::iter(route)).await?;

    guide.printer.heading("RouteChat")?;
    let note = |latitude, longitude, message: &str| RouteNote {
        location: Some(point(latitude, longitude)),
        message: message.to_owned(),
    };
    let notes = [
        note(0, 0, "First message"),
        note(0, 1, "Second message"),
        note(1, 0, "Third message"),
        note(0, 0, "Fourth message"),
        note(1, 0, "Fifth message"),
    ];
    for note in &notes {
        guide.printer.say(&format!(
            "Sending {} at {}",
            note.message,
            place(&note.location)
        ))?;
    }
    guide.route_chat(tokio_stream::iter(notes)).await
}
