//! Who answered: headers on every response, so that a caller can see how calls are spread.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use crate::{settings::Error, settings::config::Config};

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
const SERVED_VERSION: HeaderName = HeaderName::from_static("x-served-version");
const SERVED_ZONE: HeaderName = HeaderName::from_static("x-served-zone");

/// The headers `x-served-by`, `x-served-version` and, where known, `x-served-zone`.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Identity {
    /// Finds out who this is: the pod's address, else the ECS task's, else where the gRPC listener is. No
    /// headers if the configuration says so.
    pub(crate) async fn find(config: &Config, listener: SocketAddr) -> Self {
        if !config.served_by {
            return Self {
                headers: Vec::new(),
            };
        }
        let task = match &config.ecs_container_metadata_uri_v4 {
            Some(uri) if config.pod_ip.is_none() || config.zone.is_none() => {
                ask_ecs(uri).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "ECS task metadata cannot be read");
                    Task::default()
                })
            }
            _ => Task::default(),
        };
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let host = || value(&host_and_port(listener));
        let served_by = (config.pod_ip.clone())
            .or_else(|| task.address().and_then(value))
            .or_else(host);
        let zone =
            (config.zone.clone()).or_else(|| task.availability_zone.as_deref().and_then(value));
        let version = Some(HeaderValue::from_static(crate::settings::VERSION));
        let headers = [
            (SERVED_BY, served_by),
            (SERVED_VERSION, version),
            (SERVED_ZONE, zone),
        ];
        Self {
            headers: headers
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
        }
    }

    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            // In place of another server's, whose response a service may have passed on.
            headers.insert(name, value.clone());
        }
    }
}

/// Tells servers on one machine apart. The host is its name, unless the listener is at an address by which
/// others know it.
fn host_and_port(listener: SocketAddr) -> String {
    match listener.ip() {
        ip if ip.is_unspecified() || ip.is_loopback() => {
            let host = gethostname::gethostname();
            format!("{}:{}", host.to_string_lossy(), listener.port())
        }
        _ => listener.to_string(),
    }
}

/// The part of an ECS task's metadata that says where it runs.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate-response.html>
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    availability_zone: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    networks: Vec<Network>,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(default, rename = "IPv4Addresses")]
    ipv4_addresses: Vec<String>,
    #[serde(default, rename = "IPv6Addresses")]
    ipv6_addresses: Vec<String>,
}

impl Task {
    /// Its private address, IPv4 before IPv6: in the awsvpc mode every container of a task has the same.
    fn address(&self) -> Option<&str> {
        let networks = || (self.containers.iter()).flat_map(|container| &container.networks);
        let ipv4 = networks().flat_map(|network| &network.ipv4_addresses);
        let ipv6 = networks().flat_map(|network| &network.ipv6_addresses);
        ipv4.chain(ipv6).next().map(String::as_str)
    }
}

async fn ask_ecs(endpoint: &str) -> Result<Task, Error> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const LONGEST: usize = 256 * 1024;

    timeout(PATIENCE, async {
        let uri: Uri = format!("{endpoint}/task").parse()?;
        let authority = uri.authority().ok_or("no host in the endpoint")?.clone();
        let stream =
            TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get(uri.path())
            .header(HOST, authority.as_str())
            .body(Empty::<bytes::Bytes>::new())?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("{uri} answered {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), LONGEST)
            .collect()
            .await?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    })
    .await?
}
