//! tonic's helloworld and routeguide examples as they are, but for the greeting and the features, which are
//! ours, and for where they listen. What they leave out or spend is theirs too, tonic's own codec included.

use std::{
    cmp::{max, min},
    fs::File,
    io::{self, BufReader, Read, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use clap::Parser;
use prost::{DecodeError, Message as _};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming, async_trait,
    transport::{Server, server::TcpIncoming},
};

#[allow(
    clippy::all,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
mod wire {
    pub mod helloworld {
        include!(concat!(env!("OUT_DIR"), "/stock/helloworld.rs"));
    }

    pub mod routeguide {
        include!(concat!(env!("OUT_DIR"), "/stock/routeguide.rs"));
    }
}

use wire::{
    helloworld::{
        HelloReply, HelloRequest,
        greeter_server::{Greeter, GreeterServer},
    },
    routeguide::{
        Feature, Point, Rectangle, RouteNote, RouteSummary,
        route_guide_server::{RouteGuide, RouteGuideServer},
    },
};

/// tonic's own examples, to be measured
#[derive(Parser)]
struct Flags {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    features_file: PathBuf,
}

#[derive(Clone)]
struct Service {
    features: Arc<Vec<Feature>>,
}

/// Of what nothing here measures.
type None<T> = tokio_stream::Empty<Result<T, Status>>;

#[async_trait]
impl Greeter for Service {
    type SayHelloStreamReplyStream = None<HelloReply>;
    type SayHelloBidiStreamStream = None<HelloReply>;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let message = format!("Hello {}", request.into_inner().name);
        Ok(Response::new(HelloReply { message }))
    }

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<None<HelloReply>>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<None<HelloReply>>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

#[async_trait]
impl RouteGuide for Service {
    type ListFeaturesStream = ReceiverStream<Result<Feature, Status>>;
    type RouteChatStream = None<RouteNote>;

    async fn get_feature(&self, request: Request<Point>) -> Result<Response<Feature>, Status> {
        for feature in &self.features[..] {
            if feature.location.as_ref() == Some(request.get_ref()) {
                return Ok(Response::new(feature.clone()));
            }
        }
        Ok(Response::new(Feature::default()))
    }

    async fn list_features(
        &self,
        request: Request<Rectangle>,
    ) -> Result<Response<Self::ListFeaturesStream>, Status> {
        let (tx, rx) = mpsc::channel(4);
        let features = self.features.clone();
        tokio::spawn(async move {
            for feature in &features[..] {
                if in_range(feature, request.get_ref())
                    && tx.send(Ok(feature.clone())).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn record_route(
        &self,
        request: Request<Streaming<Point>>,
    ) -> Result<Response<RouteSummary>, Status> {
        let mut stream = request.into_inner();
        let mut summary = RouteSummary::default();
        let mut last_point = None;
        let now = Instant::now();
        while let Some(point) = stream.next().await {
            let point = point?;
            summary.point_count += 1;
            for feature in &self.features[..] {
                if feature.location.as_ref() == Some(&point) {
                    summary.feature_count += 1;
                }
            }
            if let Some(ref last_point) = last_point {
                summary.distance += calc_distance(last_point, &point);
            }
            last_point = Some(point);
        }
        summary.elapsed_time = now.elapsed().as_secs() as i32;
        Ok(Response::new(summary))
    }

    async fn route_chat(
        &self,
        _: Request<Streaming<RouteNote>>,
    ) -> Result<Response<None<RouteNote>>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

fn in_range(feature: &Feature, area: &Rectangle) -> bool {
    let (Some(place), Some(lo), Some(hi)) = (feature.location, area.lo, area.hi) else {
        return false;
    };
    let left = min(lo.longitude, hi.longitude);
    let right = max(lo.longitude, hi.longitude);
    let top = max(lo.latitude, hi.latitude);
    let bottom = min(lo.latitude, hi.latitude);
    place.longitude >= left
        && place.longitude <= right
        && place.latitude >= bottom
        && place.latitude <= top
}

/// The haversine formula, in metres.
fn calc_distance(p1: &Point, p2: &Point) -> i32 {
    const CORD_FACTOR: f64 = 1e7;
    const R: f64 = 6_371_000.0;

    let radians = |degrees: i32| (f64::from(degrees) / CORD_FACTOR).to_radians();
    let (lat_rad1, lat_rad2) = (radians(p1.latitude), radians(p2.latitude));
    let delta_lat = lat_rad2 - lat_rad1;
    let delta_lng = radians(p2.longitude) - radians(p1.longitude);
    let a = (delta_lat / 2.0).sin() * (delta_lat / 2.0).sin()
        + lat_rad1.cos() * lat_rad2.cos() * (delta_lng / 2.0).sin() * (delta_lng / 2.0).sin();
    let c = 2.0 * a.sqrt().atan2((1.0 - a).sqrt());
    (R * c) as i32
}

/// Those of a file, as messages of this program's.
fn features(json: impl Read) -> Result<Vec<Feature>, DecodeError> {
    let features = samples::features::read(json).into_iter();
    let ours = features.map(|feature| Feature::decode(feature.encode_to_vec().as_slice()));
    ours.collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse();
    let file = BufReader::new(File::open(flags.features_file)?);
    let service = Service {
        features: Arc::new(features(file)?),
    };
    // What `serve` does, but it would not tell the port.
    let incoming = TcpIncoming::bind(flags.listen)?.with_nodelay(Some(true));
    writeln!(io::stdout(), "listening {}", incoming.local_addr()?)?;
    Server::builder()
        .add_service(GreeterServer::new(service.clone()))
        .add_service(RouteGuideServer::new(service))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
