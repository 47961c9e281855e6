//! The same logic and data as JSON over HTTP/1.1: what gRPC is measured beside.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use clap::Parser;
use proto::{
    helloworld::HelloReply,
    routeguide::{Feature, Point, Rectangle},
};
use samples::features;
use serde::Deserialize;
use tokio::net::TcpListener;

/// A Greeter and a RouteGuide without gRPC
#[derive(Parser)]
struct Flags {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    features_file: PathBuf,
}

#[derive(Deserialize)]
struct Hello {
    name: String,
}

async fn hello(Json(request): Json<Hello>) -> Json<HelloReply> {
    let message = format!("Hello {}", request.name);
    Json(HelloReply { message })
}

#[derive(Deserialize)]
struct Area {
    south: i32,
    west: i32,
    north: i32,
    east: i32,
}

impl From<Area> for Rectangle {
    fn from(area: Area) -> Self {
        let corner = |latitude, longitude| {
            Some(Point {
                latitude,
                longitude,
            })
        };
        Self {
            lo: corner(area.south, area.west),
            hi: corner(area.north, area.east),
        }
    }
}

async fn list(State(all): State<Arc<Vec<Feature>>>, Query(area): Query<Area>) -> Response {
    let area = area.into();
    let inside = |feature: &&Feature| features::is_inside(feature, &area);
    Json(all.iter().filter(inside).collect::<Vec<_>>()).into_response()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let flags = Flags::parse();
    let file = BufReader::new(File::open(flags.features_file)?);
    let app = Router::new()
        .route("/hello", post(hello))
        .route("/features", get(list))
        .with_state(Arc::new(features::read(file)));
    let listener = TcpListener::bind(flags.listen).await?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    let listener = listener.tap_io(|stream| {
        // Without it replies only come later.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
