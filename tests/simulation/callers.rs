//! The callers: the suite's channel as it is, in use without a pause of more than a moment.

use std::time::Duration;

use channel::{Channel, Settings, Target};
use echo::pb::{EchoRequest, EchoResponse, echo_client::EchoClient};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Request, Status};

use crate::{
    plan::Plan,
    record::{Call, Kind, Outcome, Shared, open},
    servers,
};

pub(crate) fn name(caller: usize) -> String {
    format!("caller-{caller}")
}

const KINDS: [Kind; 5] = [
    Kind::Once,
    Kind::Once,
    Kind::Idempotent,
    Kind::Idempotent,
    Kind::Stream,
];

/// One of those who call without a pause.
struct Caller {
    client: EchoClient<Channel>,
    caller: usize,
    kind: Kind,
    chance: StdRng,
    /// The longest that its calls keep a server busy.
    longest: Duration,
    record: Shared,
}

pub(crate) async fn run(
    caller: usize,
    servers: usize,
    seed: u64,
    (longest, end): (Duration, Duration),
    record: Shared,
) -> turmoil::Result {
    // For the servers to be there.
    sleep(Duration::from_millis(200)).await;
    let [once, idempotent] = [&[][..], &["/grpc.examples.echo.Echo/UnaryEcho"]]
        .map(|idempotent| channel(servers, idempotent).map(EchoClient::new));
    let (once, idempotent) = (once?, idempotent?);
    let mut callers = JoinSet::new();
    for (index, kind) in KINDS.into_iter().enumerate() {
        let number = (caller * KINDS.len() + index) as u64;
        let mut each = Caller {
            client: if kind == Kind::Idempotent {
                idempotent.clone()
            } else {
                once.clone()
            },
            caller,
            kind,
            chance: StdRng::seed_from_u64(seed ^ ((number + 1) << 32)),
            longest,
            record: record.clone(),
        };
        callers.spawn(async move {
            let mut number = number << 32;
            while turmoil::sim_elapsed().is_some_and(|now| now < end) {
                each.call(number).await;
                number += 1;
                sleep(Duration::from_millis(each.chance.random_range(0..=300))).await;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    Ok(())
}

fn channel(servers: usize, idempotent: &'static [&'static str]) -> Result<Channel, String> {
    let addresses =
        (0..servers).map(|server| format!("{}:{}", servers::name(server), servers::PORT));
    let target = Target::parse(&addresses.collect::<Vec<_>>().join(","), false)?;
    let settings = Settings {
        health: Some(servers::SERVICE.to_owned()),
        idempotent,
        ..Settings::default()
    };
    Channel::new(target, settings)
}

impl Caller {
    async fn call(&mut self, number: u64) {
        // Five pauses of a stream.
        let longest = self.longest.as_millis() as u64 / 6;
        let takes = self.chance.random_range(0..=longest);
        let mut request = Request::new(EchoRequest {
            message: format!("{number} {takes}"),
        });
        let deadline =
            self.longest + Duration::from_millis(self.chance.random_range(3_000..=10_000));
        request.set_timeout(deadline);
        let begun = turmoil::sim_elapsed().unwrap_or_default();
        let replies = match self.kind {
            Kind::Once | Kind::Idempotent => {
                let reply = self.client.unary_echo(request).await;
                reply.map(|reply| vec![reply.into_inner(); 5])
            }
            Kind::Stream => self.stream(request).await,
        };
        let hello = EchoResponse {
            message: format!("Hello {number}"),
        };
        let outcome = match replies {
            Err(status) => Outcome::Failed(status.code(), status.message().to_owned()),
            Ok(replies) if replies == vec![hello; 5] => Outcome::Right,
            Ok(replies) => Outcome::Wrong(format!("{replies:?}")),
        };
        open(&self.record).calls.push(Call {
            number,
            caller: self.caller,
            kind: self.kind,
            begun,
            ended: turmoil::sim_elapsed().unwrap_or_default(),
            deadline,
            outcome,
        });
    }

    async fn stream(&mut self, request: Request<EchoRequest>) -> Result<Vec<EchoResponse>, Status> {
        let mut stream = self
            .client
            .server_streaming_echo(request)
            .await?
            .into_inner();
        let mut replies = Vec::new();
        while let Some(reply) = stream.message().await? {
            replies.push(reply);
        }
        Ok(replies)
    }
}

/// The longest that calls keep a server busy, so that none need be cut off by a drain or an age.
pub(crate) fn longest(plan: &Plan) -> Duration {
    plan.allowed() - Duration::from_secs(1)
}
