//! Health as clients and load balancers ask for it.

use std::net::SocketAddr;

use http::Request;
use tonic::{Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::{Running, raw, within};

/// `SERVING`, as a number.
pub const SERVING: i32 = ServingStatus::Serving as i32;
/// `NOT_SERVING`, as a number.
pub const NOT_SERVING: i32 = ServingStatus::NotServing as i32;

/// The request for a service.
pub fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: name.to_owned(),
    }
}

/// The status of a service, by `Check`.
pub async fn check(server: &Running, name: &str) -> Result<i32, Status> {
    let response = HealthClient::new(server.channel())
        .check(service(name))
        .await?;
    Ok(response.into_inner().status)
}

/// The statuses of a service, by `Watch`.
pub async fn watch(server: &Running, name: &str) -> Streaming<HealthCheckResponse> {
    let stream = HealthClient::new(server.channel())
        .watch(service(name))
        .await;
    stream.expect("a stream").into_inner()
}

/// The next status of a `Watch`.
pub async fn next(statuses: &mut Streaming<HealthCheckResponse>) -> Result<i32, Status> {
    Ok(within(statuses.message())
        .await?
        .expect("one more status")
        .status)
}

/// The `grpc-status` of a call with no more than this user agent: what an ALB sends besides is not
/// documented.
pub async fn code_for(addr: SocketAddr, path: &str, user_agent: &str) -> String {
    let request = Request::post(format!("http://{addr}{path}"))
        .header("user-agent", user_agent)
        .body(Default::default())
        .expect("a request");
    let answer = raw(addr, request).await;
    assert_eq!(answer.status, 200);
    let code = answer
        .headers
        .get("grpc-status")
        .or(answer.trailers.get("grpc-status"));
    code.expect("a status").to_str().expect("text").to_owned()
}
