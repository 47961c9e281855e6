//! Those who look on: one that asks each server for its health, and one that stays for as long as it is let.

use std::{io, time::Duration};

use bytes::Bytes;
use chassis::health::v1::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};
use h2::client::{Connection, ResponseFuture};
use http::Request;
use prost::Message as _;
use tokio::{
    io::AsyncReadExt as _,
    task::JoinSet,
    time::{sleep, timeout},
};
use turmoil::net::TcpStream;

use crate::{
    record::{Answer, Check, Shared, Sitting, open},
    servers::{self, PORT, SERVICE},
};

/// All of them, for each server.
pub(crate) async fn run(servers: usize, record: Shared) -> turmoil::Result {
    let mut probes = JoinSet::new();
    for server in 0..servers {
        probes.spawn(check(server, record.clone()));
        for mute in [false, true] {
            probes.spawn(sit(server, mute, record.clone()));
        }
    }
    // They have no end.
    probes.join_next().await;
    Err("a probe has panicked".into())
}

/// Asks a server for its health, for ever, each time on a new connection.
async fn check(server: usize, record: Shared) {
    loop {
        let asked = turmoil::sim_elapsed().unwrap_or_default();
        let answer = timeout(Duration::from_secs(2), ask(server)).await;
        open(&record).checks.push(Check {
            server,
            asked,
            answered: turmoil::sim_elapsed().unwrap_or_default(),
            answer: answer.unwrap_or(Answer::None),
        });
        sleep(Duration::from_millis(200)).await;
    }
}

async fn ask(server: usize) -> Answer {
    let stream = match TcpStream::connect((servers::name(server), PORT)).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Answer::Refused,
        Err(_) => return Answer::None,
    };
    let answer = async {
        let (response, connection) = begin(stream, "Check").await?;
        let connection = tokio::spawn(connection);
        let mut body = response.await?.into_body();
        let mut message = Vec::new();
        while let Some(data) = body.data().await.transpose()? {
            message.extend_from_slice(&data);
        }
        connection.abort();
        Ok::<_, h2::Error>(message)
    };
    let message = answer.await.unwrap_or_default();
    match message.get(5..).map(HealthCheckResponse::decode) {
        Some(Ok(response)) if response.status() == ServingStatus::Serving => Answer::Serving,
        Some(Ok(_)) => Answer::NotServing,
        _ => Answer::None,
    }
}

/// Begins a call of the health service, with the request for that of Echo.
async fn begin(
    stream: TcpStream,
    method: &str,
) -> Result<(ResponseFuture, Connection<TcpStream, Bytes>), h2::Error> {
    let (requests, mut connection) = h2::client::handshake(stream).await?;
    let mut ready = requests.ready();
    let mut requests = tokio::select! {
        requests = &mut ready => requests?,
        ended = &mut connection => return ended.and(Err(h2::Reason::NO_ERROR.into())),
    };
    let request = Request::post(format!("http://probe/grpc.health.v1.Health/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(());
    let request = request.map_err(|_| h2::Error::from(h2::Reason::INTERNAL_ERROR))?;
    let (response, mut body) = requests.send_request(request, false)?;
    let message = HealthCheckRequest {
        service: SERVICE.to_owned(),
    }
    .encode_to_vec();
    let head = [[0].as_slice(), &(message.len() as u32).to_be_bytes()].concat();
    body.send_data([head, message].concat().into(), true)?;
    Ok((response, connection))
}

/// Stays on a connection for as long as it is let, and comes back: a `mute` one says nothing, the other watches
/// health, does not mind GOAWAY, and wants no end.
async fn sit(server: usize, mute: bool, record: Shared) {
    loop {
        sleep(Duration::from_millis(100)).await;
        let connecting = TcpStream::connect((servers::name(server), PORT));
        let Ok(Ok(mut stream)) = timeout(Duration::from_secs(2), connecting).await else {
            continue;
        };
        let from = turmoil::sim_elapsed().unwrap_or_default();
        if mute {
            // Whatever it is, it is the end.
            let _ = stream.read_u8().await;
        } else if let Ok((response, connection)) = begin(stream, "Watch").await {
            // Both kept: a call that is dropped is over.
            let watching = tokio::spawn(async move {
                let body = response.await;
                std::future::pending::<()>().await;
                drop(body);
            });
            let _ = connection.await;
            watching.abort();
        }
        let to = turmoil::sim_elapsed().unwrap_or_default();
        open(&record).sittings.push(Sitting {
            server,
            mute,
            from,
            to,
        });
    }
}
