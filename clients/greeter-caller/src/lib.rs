//! A Lambda function that calls `helloworld.Greeter` by name, as functions in a VPC call services on ECS.
//!
//! It calls the server at `GREETER_URL`, such as `http://greeter.grpc-suite.local:9000` or
//! `dns:///greeter.grpc-suite.local:9000`. For the event `{"name": "Ada"}` it returns
//! `{"message": "Hello Ada", "served_by": "10.0.1.7"}`, and writes that to its log. The invocation fails if
//! the call does, with the code in the type of the error, such as `Grpc.Unavailable`.
//!
//! ```sh
//! cargo lambda build --release --arm64 --output-format zip --bin greeter-caller
//! ```
//!
//! makes `target/lambda/greeter-caller/bootstrap.zip`, for `provided.al2023`.
//!
//! It is a client, and so it lives here and not with the services, whose functions are servers.

use std::{
    env,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use channel::{Channel, Settings, Target};
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, service_fn};
use proto::helloworld::{
    HelloReply, HelloRequest, greeter_client::GreeterClient, greeter_server::SERVICE_NAME,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

/// Answers events for as long as the process lives.
pub async fn run() -> Result<(), Error> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .init();
    let url = env::var("GREETER_URL").map_err(|error| format!("GREETER_URL: {error}"))?;
    let target =
        Target::parse(&url, false).map_err(|error| format!("GREETER_URL={url}: {error}"))?;
    let caller = Arc::new(Caller::new(target)?);
    lambda_runtime::run(service_fn(move |event| {
        let caller = caller.clone();
        async move { caller.answer(event).await }
    }))
    .await
}

#[derive(Debug, Deserialize)]
struct Event {
    name: String,
}

#[derive(Debug, Serialize)]
struct Greeting {
    message: String,
    served_by: Option<String>,
}

/// Why an invocation fails.
#[derive(Debug)]
struct Failed(Status);

impl From<Failed> for Diagnostic {
    fn from(Failed(status): Failed) -> Self {
        Self {
            error_type: format!("Grpc.{:?}", status.code()),
            error_message: status.message().to_owned(),
        }
    }
}

/// Calls over a channel that is kept from one invocation to the next.
struct Caller {
    target: Target,
    client: Mutex<GreeterClient<Channel>>,
}

impl Caller {
    fn new(target: Target) -> Result<Self, String> {
        let client = Mutex::new(connect(&target)?);
        Ok(Self { target, client })
    }

    async fn answer(&self, event: LambdaEvent<Event>) -> Result<Greeting, Failed> {
        let LambdaEvent { payload, context } = event;
        let response = self.call(&payload.name, time_left(&context)).await;
        let response = response.map_err(Failed)?;
        let served_by = response.metadata().get("x-served-by");
        let served_by = served_by.and_then(|name| Some(name.to_str().ok()?.to_owned()));
        let message = response.into_inner().message;
        tracing::info!(greeting = message, served_by, "received");
        Ok(Greeting { message, served_by })
    }

    /// Calls, and once more on a new channel if there is no answer in half of the time.
    ///
    /// Between invocations the process is frozen. What it then missed of its connections it learns as it
    /// thaws, and the channel tries again by itself; but where its server has gone with its address,
    /// there is nobody to say so, and nothing that it sends is answered.
    async fn call(&self, name: &str, left: Duration) -> Result<Response<HelloReply>, Status> {
        let deadline = Instant::now() + left;
        let status = match self.attempt(name, left / 2).await {
            Err(status) if is_of_the_network(&status) => status,
            answer => return answer,
        };
        tracing::warn!(%status, "calling once more, on a new channel");
        *self.client() = connect(&self.target).map_err(Status::unavailable)?;
        let left = deadline.saturating_duration_since(Instant::now());
        self.attempt(name, left).await
    }

    async fn attempt(&self, name: &str, limit: Duration) -> Result<Response<HelloReply>, Status> {
        let name = name.to_owned();
        let mut request = Request::new(HelloRequest { name });
        request.set_timeout(limit);
        let mut client = self.client().clone();
        client.say_hello(request).await
    }

    fn client(&self) -> MutexGuard<'_, GreeterClient<Channel>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(target: &Target) -> Result<GreeterClient<Channel>, String> {
    let settings = Settings {
        health: Some(SERVICE_NAME.to_owned()),
        // A greeting changes nothing.
        idempotent: &["/helloworld.Greeter/SayHello"],
        ..Settings::default()
    };
    Channel::new(target.clone(), settings).map(GreeterClient::new)
}

fn is_of_the_network(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// How long the call may take: what a greeting ever needs, and no longer than the invocation, which
/// still has to say what came of it.
fn time_left(context: &Context) -> Duration {
    const LONGEST: Duration = Duration::from_secs(3);
    const TO_ANSWER: Duration = Duration::from_millis(200);
    // Lambda says it as a time of day.
    let left = context.deadline().duration_since(SystemTime::now());
    left.unwrap_or_default()
        .saturating_sub(TO_ANSWER)
        .min(LONGEST)
}
