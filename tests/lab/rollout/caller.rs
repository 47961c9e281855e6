//! A client of RouteGuide that knows what every answer must be.

use std::time::Duration;

use bytes::Bytes;
use proto::routeguide::{
    Feature, Point, Rectangle, RouteNote, route_guide_client::RouteGuideClient,
};
use samples::features;
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Status, Streaming,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, StdError},
};

use crate::rollout::replies::{Verdict, judge, judge_count};

/// Whatever can carry calls, from as many tasks as there are clones of it.
pub(crate) trait Transport:
    GrpcService<
        Body,
        Error: Into<StdError>,
        Future: Send,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<T> Transport for T where
    T: GrpcService<
            Body,
            Error: Into<StdError>,
            Future: Send,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

pub(crate) struct Caller<T> {
    client: RouteGuideClient<T>,
    features: Vec<Feature>,
    /// Two callers leave no notes at one place.
    number: i32,
    /// Before each message of a request that is a stream.
    pause: Duration,
}

impl<T: Transport> Caller<T> {
    pub(crate) fn new(transport: T, number: i32, pause: Duration) -> Self {
        Self {
            client: RouteGuideClient::new(transport),
            features: features::all(),
            number,
            pause,
        }
    }

    /// Makes the nth call: the four kinds take turns, beginning with the unary one.
    pub(crate) async fn call(&mut self, nth: usize) -> Result<Verdict, Status> {
        match nth % 4 {
            0 => self.get_feature(nth).await,
            1 => self.list_features(nth).await,
            2 => self.record_route(nth).await,
            _ => self.route_chat(nth).await,
        }
    }

    fn feature(&self, nth: usize) -> &Feature {
        &self.features[nth % self.features.len()]
    }

    fn place(&self, nth: usize) -> Point {
        self.feature(nth).location.expect("a place")
    }

    async fn get_feature(&mut self, nth: usize) -> Result<Verdict, Status> {
        let request = bounded(self.place(nth));
        let found = self.client.get_feature(request).await?.into_inner();
        Ok(judge(std::slice::from_ref(self.feature(nth)), &[found]))
    }

    async fn list_features(&mut self, nth: usize) -> Result<Verdict, Status> {
        let area = Rectangle {
            lo: Some(self.place(nth)),
            hi: Some(self.place(nth * 7 + 31)),
        };
        let found = self.client.list_features(bounded(area)).await?;
        let found = collect(found.into_inner()).await?;
        let inside = |feature: &&Feature| features::is_inside(feature, &area);
        let due: Vec<_> = self.features.iter().filter(inside).cloned().collect();
        Ok(judge(&due, &found))
    }

    async fn record_route(&mut self, nth: usize) -> Result<Verdict, Status> {
        let points: Vec<_> = (0..=nth % 10).map(|point| self.place(point)).collect();
        let due = points.len();
        let request = bounded(paced(points, self.pause));
        let summary = self.client.record_route(request).await?.into_inner();
        Ok(judge_count(due, summary.point_count))
    }

    async fn route_chat(&mut self, nth: usize) -> Result<Verdict, Status> {
        let location = Some(Point {
            latitude: nth as i32,
            longitude: self.number,
        });
        let note = |number| RouteNote {
            location,
            message: format!("note {number}"),
        };
        let notes: Vec<_> = (0..2 + nth % 5).map(note).collect();
        let due = (0..notes.len()).flat_map(|earlier| notes[..earlier].to_vec());
        let due: Vec<_> = due.collect();
        let request = bounded(paced(notes, self.pause));
        let found = self.client.route_chat(request).await?.into_inner();
        Ok(judge(&due, &collect(found).await?))
    }
}

/// A request that does not wait for ever.
fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(5));
    request
}

fn paced<T>(messages: Vec<T>, pause: Duration) -> impl Stream<Item = T> {
    tokio_stream::iter(messages).then(move |message| async move {
        // Even a sleep of nothing lasts until the next tick.
        if !pause.is_zero() {
            sleep(pause).await;
        }
        message
    })
}

async fn collect<T>(mut replies: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut found = Vec::new();
    while let Some(reply) = replies.message().await? {
        found.push(reply);
    }
    Ok(found)
}
