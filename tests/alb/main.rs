//! `alb`: the double of a load balancer as a program, for clients in other languages.

use std::{future::pending, io::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use alb::{
    Alb, Algorithm, Certificate, Error, GroupSettings, HealthCheck, Matcher, Rule, Settings, State,
};
use clap::Parser as _;
use tokio::select;

/// Does to gRPC what an Application Load Balancer does, until it is killed
#[derive(clap::Parser)]
#[command(name = "alb")]
struct CommandLine {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// The certificate to show, as a PEM file; without it, plaintext
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,

    /// Its key, as a PEM file
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,

    /// Which paths go to which target group, such as '/routeguide.*=rg'; the first that matches counts
    #[arg(long = "rule", value_name = "PATTERN=GROUP", required = true)]
    rules: Vec<Rule>,

    /// A target of a group, such as rg=127.0.0.1:50051
    #[arg(long = "target", value_name = "GROUP=ADDR", value_parser = target)]
    targets: Vec<(String, SocketAddr)>,

    /// Who gets the next request
    #[arg(long, value_enum, default_value = "round-robin")]
    algorithm: Algorithm,

    /// The method that health checks call
    #[arg(long, default_value = "/AWS.ALB/healthcheck")]
    health_path: String,

    /// The gRPC codes that make a target healthy
    #[arg(long, default_value = "12")]
    matcher: Matcher,

    /// Seconds between two health checks
    #[arg(long, default_value = "30", value_parser = clap::value_parser!(u64).range(1..))]
    health_interval: u64,

    /// Seconds after which an idle connection or stream is cut
    #[arg(long, default_value = "60")]
    idle_timeout: u64,

    /// Requests on a connection of a client before GOAWAY
    #[arg(long, default_value = "10000")]
    requests_per_connection: u64,
}

fn target(text: &str) -> Result<(String, SocketAddr), String> {
    let (group, addr) = text.split_once('=').ok_or("not GROUP=ADDR")?;
    let addr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    Ok((group.into(), addr))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let line = CommandLine::parse();
    let group = GroupSettings {
        algorithm: line.algorithm,
        health: HealthCheck {
            path: line.health_path,
            matcher: line.matcher,
            interval: Duration::from_secs(line.health_interval),
            ..HealthCheck::default()
        },
        ..GroupSettings::default()
    };
    let names = line.targets.iter().map(|(name, _)| name.clone());
    let alb = Alb::start(Settings {
        listen: line.listen,
        certificate: line
            .cert
            .zip(line.key)
            .map(|(cert, key)| Certificate { cert, key }),
        rules: line.rules,
        groups: names.map(|name| (name, group.clone())).collect(),
        idle_timeout: Duration::from_secs(line.idle_timeout),
        requests_per_connection: line.requests_per_connection,
        ..Settings::default()
    });
    let alb = alb.await?;
    for (name, addr) in &line.targets {
        alb.register(name, *addr);
    }
    // Until then it would have nobody to ask.
    for (name, addr) in &line.targets {
        select! {
            () = alb.reaches(name, *addr, State::Healthy) => {}
            () = alb.reaches(name, *addr, State::Unhealthy) => {}
        }
    }
    writeln!(std::io::stdout(), "listening {}", alb.addr)?;
    pending().await
}
