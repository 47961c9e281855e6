//! A rolling deployment as ECS does it, behind the double of an ALB with the settings that the CDK app has
//! for RouteGuide.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use alb::{Algorithm, GroupSettings, HealthCheck};
use harness::measurement::{Measurement, Side};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::{join, sync::watch};

use crate::rollout::{
    fleet::{self, Replica},
    load::{self, Stage},
    paths::Balancer,
};

/// What the CDK app prints of its templates; times in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    load_balancer: LoadBalancer,
    target_groups: BTreeMap<String, TargetGroup>,
}

#[derive(Debug, Deserialize)]
struct LoadBalancer {
    attributes: BTreeMap<String, String>,
}

/// A target group, and of the tasks behind it what they are told and how long they have to end.
#[derive(Debug, Deserialize)]
struct TargetGroup {
    health_check: Check,
    attributes: BTreeMap<String, String>,
    stop_timeout_seconds: u64,
    environment: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Check {
    path: String,
    matcher: GrpcCode,
    interval_seconds: u64,
    timeout_seconds: u64,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GrpcCode {
    grpc_code: String,
}

/// How many tasks the service has.
const TASKS: usize = 3;
/// How many times each of them is replaced.
const DEPLOYMENTS: usize = 3;

impl Settings {
    /// Reads what the CDK app has printed.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        let settings =
            text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
        settings.map_err(|error| format!("{}: {error}", path.display()))
    }

    fn idle_timeout(&self) -> Duration {
        seconds(
            &self.load_balancer.attributes,
            "idle_timeout.timeout_seconds",
        )
    }
}

fn seconds(attributes: &BTreeMap<String, String>, name: &str) -> Duration {
    Duration::from_secs(attributes[name].parse().expect("seconds"))
}

impl TargetGroup {
    fn settings(&self) -> GroupSettings {
        let check = &self.health_check;
        let algorithm = &self.attributes["load_balancing.algorithm.type"];
        GroupSettings {
            algorithm: match algorithm.as_str() {
                "least_outstanding_requests" => Algorithm::LeastOutstandingRequests,
                "round_robin" => Algorithm::RoundRobin,
                other => panic!("{other}: the double knows no such algorithm"),
            },
            health: HealthCheck {
                path: check.path.clone(),
                matcher: check.matcher.grpc_code.parse().expect("a matcher"),
                interval: Duration::from_secs(check.interval_seconds),
                timeout: Duration::from_secs(check.timeout_seconds),
                healthy_threshold: check.healthy_threshold,
                unhealthy_threshold: check.unhealthy_threshold,
            },
            deregistration_delay: seconds(&self.attributes, "deregistration_delay.timeout_seconds"),
            ..GroupSettings::default()
        }
    }

    /// The variables of the container as flags.
    fn flags(&self) -> Vec<String> {
        let flag = |variable: &str| variable.to_lowercase().replace('_', "-");
        (self.environment.iter())
            .map(|(variable, value)| format!("--{}={value}", flag(variable)))
            .collect()
    }

    fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_seconds)
    }
}

/// Replaces every task of RouteGuide, again and again, under load.
pub(crate) async fn measure(settings: &Settings, calls: u64) -> Measurement {
    let group = &settings.target_groups["route-guide"];
    let balancer = Balancer::start(group.settings(), settings.idle_timeout()).await;
    let balancer = Arc::new(balancer);
    let mut addrs = fleet::free_addrs(TASKS * (1 + DEPLOYMENTS)).into_iter();
    let mut tasks = Vec::new();
    for addr in addrs.by_ref().take(TASKS) {
        tasks.push(run_task(addr, group, &balancer).await);
    }
    let (stage, seen) = watch::channel(Stage::Steady);
    let load = load::here(balancer.clone().front().ours(), seen, calls);
    let replace = async {
        let mut killed = 0;
        for (nth, addr) in addrs.enumerate() {
            stage.send_replace(Stage::Restarting);
            // minimumHealthyPercent 100: the new task first.
            let new = run_task(addr, group, &balancer).await;
            let old = std::mem::replace(&mut tasks[nth % TASKS], new);
            killed += usize::from(stop_task(old, group, &balancer).await);
            stage.send_replace(Stage::Steady);
        }
        stage.send_replace(Stage::Over);
        killed
    };
    let (outcome, killed) = join!(load, replace);
    outcome
        .measurement(false)
        .goal(killed == 0, format!("{killed} killed"))
        .note(format!("{} tasks replaced", TASKS * DEPLOYMENTS))
}

/// Starts a task, and registers it when it is up; it counts when the balancer finds it healthy.
async fn run_task(addr: SocketAddr, group: &TargetGroup, balancer: &Balancer) -> Replica {
    let task = Replica::start(Side::Ours, addr, group.flags()).await;
    balancer.register(addr).await;
    task
}

/// Deregisters a task, waits until the balancer has let go of it, asks it to end, and kills it if it
/// does not within `stopTimeout`. Says whether it had to.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-connection-draining.html>
async fn stop_task(mut task: Replica, group: &TargetGroup, balancer: &Balancer) -> bool {
    balancer.deregister(task.addr).await;
    task.end(Signal::TERM, group.stop_timeout()).await
}
