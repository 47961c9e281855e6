//! `routeguide.RouteGuide`: features, routes and notes on a map.
//!
//! Every method does three things: it parses the request into types that can only hold valid values, calls
//! `features`, `route` or `notes`, and converts the result.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Instant};

use chassis::{App, Error, MAX_REQUEST_BYTES, Runtime, Services, invalid_argument, unavailable};
use proto::routeguide::{
    self as wire, RouteNote, RouteSummary,
    route_guide_server::{RouteGuide, RouteGuideServer},
};
use tokio::{select, task::spawn_blocking};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use tower::util::MapResponseLayer;

mod encoded;
mod feature_id;
mod features;
mod features_file;
mod heartbeat;
mod notes;
mod places;
mod point;
mod route;
mod tree;

use features::Features;
use heartbeat::Heartbeat;
use notes::{Note, NoteStore};
use point::{Point, Rectangle};
use route::Route;

/// The server binary, for the chassis.
pub const APP: App<Settings> = App {
    name: "route-guide",
    about: env!("CARGO_PKG_DESCRIPTION"),
    listen_port: 50051,
    build: |settings, runtime| Box::pin(build(settings, runtime)),
};

/// RouteGuide's own settings.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// File with the features to serve: a JSON array, one to a line (NDJSON), or what grpcurl prints of
    /// ListFeatures [default: the 100 that are built in]
    #[arg(long, help_heading = "Features")]
    features_file: Option<PathBuf>,

    #[command(flatten)]
    notes: notes::NotesSettings,
}

async fn build(settings: Settings, runtime: Runtime) -> Result<Services, Error> {
    // Far above a valid note, so that a longer one is still received and refused with an explanation.
    let note_bytes = settings.notes.note_bytes();
    let max_request_bytes = MAX_REQUEST_BYTES.max(2 * note_bytes as usize);
    let file = settings.features_file;
    // The file may be a pipe without a writer.
    let features = spawn_blocking(move || match &file {
        Some(path) => Features::from_file(path),
        None => Features::embedded(),
    });
    let service = Service {
        features: features.await??,
        notes: settings.notes.open(&runtime)?,
        note_bytes,
    };
    Ok(
        Services::described_by(proto::routeguide::FILE_DESCRIPTOR_SET)
            .add_service_limited(RouteGuideServer::new(service), max_request_bytes)
            .layer(MapResponseLayer::new(encoded::in_place)),
    )
}

struct Service {
    features: Features,
    notes: Arc<dyn NoteStore>,
    /// Maximum bytes in one note.
    note_bytes: u32,
}

#[tonic::async_trait]
impl RouteGuide for Service {
    type ListFeaturesStream = Pin<Box<dyn Stream<Item = Result<wire::Feature, Status>> + Send>>;
    type RouteChatStream = Pin<Box<dyn Stream<Item = Result<RouteNote, Status>> + Send>>;

    async fn get_feature(
        &self,
        request: Request<wire::Point>,
    ) -> Result<Response<wire::Feature>, Status> {
        let asked = request.into_inner();
        let found = self.features.at(point("", asked)?);
        Ok(Response::new(found.unwrap_or(wire::Feature {
            name: String::new(),
            location: Some(asked),
        })))
    }

    async fn list_features(
        &self,
        request: Request<wire::Rectangle>,
    ) -> Result<Response<Self::ListFeaturesStream>, Status> {
        let wire::Rectangle { lo, hi } = request.into_inner();
        let area = Rectangle::between(needed_point("lo", lo)?, needed_point("hi", hi)?);
        let inside = self.features.places.inside(area);
        Ok(self.features.replies.stream(inside))
    }

    async fn record_route(
        &self,
        request: Request<Streaming<wire::Point>>,
    ) -> Result<Response<RouteSummary>, Status> {
        let began = Instant::now();
        let mut points = request.into_inner();
        let mut route = Route::default();
        while let Some(next) = points.message().await? {
            let next = point("", next)?;
            route.pass(next, self.features.places.at(next).is_some());
        }
        let summary = route.summary(began.elapsed());
        Ok(Response::new(RouteSummary {
            point_count: summary.points,
            feature_count: summary.features,
            distance: summary.metres,
            elapsed_time: summary.seconds,
        }))
    }

    async fn route_chat(
        &self,
        request: Request<Streaming<RouteNote>>,
    ) -> Result<Response<Self::RouteChatStream>, Status> {
        let mut heartbeat = heartbeat(request.metadata())?;
        let mut incoming = request.into_inner();
        let (notes, note_bytes) = (self.notes.clone(), self.note_bytes);
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            loop {
                let heard = select! {
                    heard = incoming.message() => Some(heard),
                    () = heartbeat.due() => None,
                };
                match heard.transpose()? {
                    Some(None) => break,
                    Some(Some(RouteNote { location, message })) => {
                        let place = needed_point("location", location)?;
                        let note = Note::new(message, note_bytes)
                            .map_err(|too_long| invalid_argument("message", too_long.to_string()))?;
                        let left = notes.leave(place, note).await;
                        for earlier in left.map_err(|down| unavailable(down.to_string()))? {
                            heartbeat.said();
                            yield RouteNote { location, message: earlier.to_string() };
                        }
                    }
                    None => {
                        heartbeat.said();
                        yield RouteNote::default();
                    }
                }
            }
        })))
    }
}

/// The heartbeat that a chat requests with `x-heartbeat`.
fn heartbeat(metadata: &MetadataMap) -> Result<Heartbeat, Status> {
    const NAME: &str = "x-heartbeat";
    let seconds = metadata
        .get(NAME)
        .map(|value| value.to_str().unwrap_or("?"));
    Heartbeat::asked(seconds).map_err(|problem| invalid_argument(NAME, problem))
}

/// The point that `field` of a request holds; `field` is empty where the request itself is the point.
fn point(field: &str, wire: wire::Point) -> Result<Point, Status> {
    Point::new(wire.latitude, wire.longitude).map_err(|error| {
        let dot = if field.is_empty() { "" } else { "." };
        invalid_argument(
            &format!("{field}{dot}{}", error.coordinate),
            error.to_string(),
        )
    })
}

fn needed_point(field: &str, wire: Option<wire::Point>) -> Result<Point, Status> {
    point(
        field,
        wire.ok_or_else(|| invalid_argument(field, "must be given"))?,
    )
}
