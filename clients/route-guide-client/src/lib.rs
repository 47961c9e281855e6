//! Calls `routeguide.RouteGuide` from the command line.

use clap::{Parser, Subcommand};
use cli::{Channel, Client, Connection, Failure, Format, Printer, chat, input, printable};
use proto::routeguide::{
    Feature, Point, Rectangle, RouteNote, route_guide_client::RouteGuideClient,
    route_guide_server::SERVICE_NAME,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Request;

mod arguments;
mod tour;

use arguments::{NoteArgument, PointArgument};

const EXAMPLES: &str = "\
A POINT is LATITUDE,LONGITUDE in units of 1e-7 degree; in a list, put -- before southern ones.

Examples:
  route-guide-client                                      # the tour
  route-guide-client get-feature 409146138,-746188906
  route-guide-client list-features 400000000,-750000000 420000000,-730000000 -o json
  route-guide-client record-route 407838351,-746143763 408122808,-743999179
  route-guide-client route-chat 0,0,First 0,1,Second 0,0,Third
  route-guide-client route-chat                           # a note on each line of standard input
  route-guide-client tour --addr https://routes.example.com --max-time 5

Exits 0 on success, 64 plus the gRPC code when a call fails, 2 on a wrong command line.";

/// Calls routeguide.RouteGuide
#[derive(Debug, Parser)]
#[command(name = "route-guide-client", version, after_help = EXAMPLES)]
pub struct CommandLine {
    /// Target: http://HOST:PORT, https://HOST:PORT, or HOST:PORT; several with commas, or
    /// dns:///HOST:PORT for all addresses of a name
    #[arg(long, global = true, default_value = "http://localhost:50051")]
    addr: String,

    #[command(flatten)]
    connection: Connection,

    /// How to print messages
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Format,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every method once, with the requests of the public client (the default)
    Tour,
    /// GetFeature: what is at a point
    GetFeature {
        #[arg(value_name = "POINT", allow_hyphen_values = true)]
        at: PointArgument,
    },
    /// ListFeatures: what is inside a rectangle, edges included
    ListFeatures {
        /// One corner
        #[arg(value_name = "POINT", allow_hyphen_values = true)]
        lo: PointArgument,
        /// The corner opposite
        #[arg(value_name = "POINT", allow_hyphen_values = true)]
        hi: PointArgument,
    },
    /// RecordRoute: the sum of a route
    RecordRoute {
        /// The points; without one, those on standard input, line by line
        #[arg(value_name = "POINT")]
        points: Vec<PointArgument>,
    },
    /// RouteChat: leaves notes and brings back the earlier ones at the same points
    RouteChat {
        /// The notes, POINT,TEXT; without one, those on standard input, line by line
        #[arg(value_name = "NOTE")]
        notes: Vec<NoteArgument>,
    },
}

/// The methods that are safe to retry: all except RouteChat, which stores notes.
pub const IDEMPOTENT: &[&str] = &[
    "/routeguide.RouteGuide/GetFeature",
    "/routeguide.RouteGuide/ListFeatures",
    "/routeguide.RouteGuide/RecordRoute",
];

impl Client for CommandLine {
    fn format(&self) -> Format {
        self.output
    }

    async fn run(self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let channel = self
            .connection
            .channel(&self.addr, SERVICE_NAME, IDEMPOTENT)?;
        let client = RouteGuideClient::new(channel);
        let mut guide = Guide { client, printer };
        match self.command.unwrap_or(Command::Tour) {
            Command::Tour => tour::tour(&mut guide).await,
            Command::GetFeature { at } => guide.get_feature(at.0).await,
            Command::ListFeatures { lo, hi } => guide.list_features(lo.0, hi.0).await.map(drop),
            Command::RecordRoute { points } => {
                guide.record_route(input(points).map(|point| point.0)).await
            }
            Command::RouteChat { notes } => guide.route_chat(input(notes).map(|note| note.0)).await,
        }
    }
}

/// Calls each method and prints the responses.
struct Guide<'a, 'p> {
    client: RouteGuideClient<Channel>,
    printer: &'a mut Printer<'p>,
}

impl Guide<'_, '_> {
    async fn get_feature(&mut self, at: Point) -> Result<(), Failure> {
        let response = self.client.get_feature(at).await?;
        self.printer.served_by(response.metadata())?;
        let feature = response.into_inner();
        let words = if feature.name.is_empty() {
            format!("Found no feature at {}", place(&feature.location))
        } else {
            in_words(&feature)
        };
        Ok(self.printer.message(&feature, &words)?)
    }

    async fn list_features(&mut self, lo: Point, hi: Point) -> Result<Vec<Feature>, Failure> {
        let area = Rectangle {
            lo: Some(lo),
            hi: Some(hi),
        };
        let response = self.client.list_features(area).await?;
        self.printer.served_by(response.metadata())?;
        let mut stream = response.into_inner();
        let mut features = Vec::new();
        while let Some(feature) = stream.message().await? {
            self.printer.message(&feature, &in_words(&feature))?;
            features.push(feature);
        }
        Ok(features)
    }

    async fn record_route(
        &mut self,
        points: impl Stream<Item = Point> + Send + 'static,
    ) -> Result<(), Failure> {
        let response = self.client.record_route(points).await?;
        self.printer.served_by(response.metadata())?;
        let summary = response.into_inner();
        let words = format!(
            "Finished trip with {} points\nPassed {} features\nTravelled {} meters\n\
             It took {} seconds",
            summary.point_count, summary.feature_count, summary.distance, summary.elapsed_time
        );
        Ok(self.printer.message(&summary, &words)?)
    }

    async fn route_chat(
        &mut self,
        notes: impl Stream<Item = RouteNote> + Send + 'static,
    ) -> Result<(), Failure> {
        // Seconds: an ALB cuts a stream without a message for a minute.
        const HEARTBEAT: u32 = 25;
        let open = async |notes| {
            let mut request = Request::new(notes);
            request
                .metadata_mut()
                .insert("x-heartbeat", HEARTBEAT.into());
            self.client.route_chat(request).await
        };
        let words = |note: &RouteNote| {
            // A note without a location is a heartbeat.
            note.location.as_ref()?;
            let message = printable(&note.message);
            Some(format!("Received {message} at {}", place(&note.location)))
        };
        chat(self.printer, notes, open, words).await
    }
}

fn in_words(feature: &Feature) -> String {
    format!(
        "Feature called '{}' at {}",
        printable(&feature.name),
        place(&feature.location)
    )
}

fn place(location: &Option<Point>) -> String {
    let Point {
        latitude,
        longitude,
    } = location.unwrap_or_default();
    format!("latitude: {latitude}, longitude: {longitude}")
}
