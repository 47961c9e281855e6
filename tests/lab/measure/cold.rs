//! From exec to the first answer: the server, the Greeter as a function, and the function that calls it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{Process, framed};
use proto::helloworld::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use samples::lambda::{Function, of_api_gateway};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::measure::{
    measurement::{Measurement, percentile, time},
    server_under_test::Side,
};

const RUNS: usize = 20;

pub(crate) async fn cold_start(side: Side) -> Measurement {
    if side == Side::Plain {
        return Measurement::new().note("n/a: is no function");
    }
    let server = Process::start("greeter", &[]).await;
    let url = format!("http://{}", server.addr);
    let hello = framed(&HelloRequest { name: "Ada".into() });
    let path = "/helloworld.Greeter/SayHello";
    let web = of_api_gateway("POST", path, "application/grpc-web+proto", &hello);

    let (mut servers, mut greeters, mut callers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        servers.push(greeting().await);
        greeters.push(answer("greeter-lambda", &[], &web, greets_over_grpc_web).await);
        let told = [("GREETER_URL", url.as_str())];
        callers.push(answer("greeter-caller", &told, &json!({"name": "Ada"}), greets).await);
    }
    let median = |mut times: Vec<Duration>| time(percentile(&mut times, 0.5));
    Measurement::new()
        .note(format!("the server {}", median(servers)))
        .note(format!("greeter-lambda {}", median(greeters)))
        .note(format!("greeter-caller {}", median(callers)))
        .note(format!("medians of {RUNS}"))
}

/// Starts a server, and calls it once.
async fn greeting() -> Duration {
    let began = Instant::now();
    let server = Process::start("greeter", &[]).await;
    let mut client = GreeterClient::new(server.channel());
    let reply = client.say_hello(HelloRequest { name: "Ada".into() }).await;
    reply.expect("a greeting");
    began.elapsed()
}

/// Starts a function, and invokes it once, which must end `well`.
async fn answer(
    function: &str,
    environment: &[(&str, &str)],
    event: &Value,
    well: fn(&Value) -> bool,
) -> Duration {
    let began = Instant::now();
    let function = Function::start(function, environment).await;
    let answer = function.invoke(event).await.expect("an answer");
    let took = began.elapsed();
    assert!(well(&answer), "{answer}");
    took
}

fn greets(answer: &Value) -> bool {
    answer["message"] == "Hello Ada"
}

fn greets_over_grpc_web(answer: &Value) -> bool {
    let message = "Hello Ada".into();
    let body = answer["body"].as_str().map(|body| STANDARD.decode(body));
    body.is_some_and(|body| {
        body.is_ok_and(|body| body.starts_with(&framed(&HelloReply { message })))
    })
}
