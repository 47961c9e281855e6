//! What the health service says of RouteGuide, and since when.

use std::time::Instant;

use tokio::sync::watch;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

/// All that it has said.
pub(super) struct Health(watch::Receiver<Vec<(Instant, ServingStatus)>>);

impl Health {
    pub(super) async fn watch(channel: Channel) -> Self {
        let request = HealthCheckRequest {
            service: "routeguide.RouteGuide".into(),
        };
        let statuses = HealthClient::new(channel).watch(request).await;
        let mut statuses = statuses.expect("a watch").into_inner();
        let (sender, said) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(status)) = statuses.message().await {
                sender.send_modify(|said| said.push((Instant::now(), status.status())));
            }
        });
        Self(said)
    }

    pub(super) async fn serving(&mut self) {
        let serving = |said: &Vec<_>| matches!(said.last(), Some((_, Serving)));
        self.0
            .wait_for(|said| serving(said))
            .await
            .expect("a watch that goes on");
    }

    /// When it first said NOT_SERVING after this, and when it then said SERVING.
    pub(super) async fn left_and_returned(&mut self, after: Instant) -> [Instant; 2] {
        let find = |said: &Vec<(Instant, ServingStatus)>| {
            let mut said = said.iter().filter(|(at, _)| *at > after);
            let (left, _) = said.find(|(_, status)| *status == NotServing)?;
            let (returned, _) = said.find(|(_, status)| *status == Serving)?;
            Some([*left, *returned])
        };
        let said = self.0.wait_for(|said| find(said).is_some()).await;
        find(&said.expect("a watch that goes on")).expect("found")
    }
}
