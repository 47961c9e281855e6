//! What the servers say of themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use chassis::{
    App, Config, Invocation, bytes_in,
    health::v1::{HealthListRequest, health_client::HealthClient},
};
use harness::{get, start};

pub(super) type Servers = BTreeMap<&'static str, Server>;

/// Variables and their values.
type Environment = BTreeMap<String, String>;

/// What a server listens to, serves and takes for settings.
pub(super) struct Server {
    /// Where it listens for gRPC; it listens for admin requests on the next port.
    pub(super) port: u64,
    /// The variables that it reads.
    pub(super) settings: BTreeSet<String>,
    /// What `/metrics` says.
    pub(super) metrics: String,
    /// The most bytes of notes that it keeps, if it keeps them itself.
    pub(super) notes_memory: u64,
    services: BTreeSet<String>,
    parse: Box<Parse>,
}

type Parse = dyn Fn(&[&str], &Environment) -> Result<Option<Config>, String>;

pub(super) async fn all() -> Servers {
    [
        (route_guide::APP.name, Server::of(|| route_guide::APP).await),
        (greeter::APP.name, Server::of(|| greeter::APP).await),
    ]
    .into()
}

impl Server {
    async fn of<S: clap::Args + Send + 'static>(app: fn() -> App<S>) -> Self {
        let settings = match app().parse(["--print-config"], |_| None) {
            Ok(Invocation::PrintConfig(lines)) => lines,
            other => panic!("{:?}", other.err()),
        };
        let settings = settings.lines().filter_map(|line| line.split_once('='));
        let settings: Environment = settings
            .map(|(name, value)| {
                let (value, _source) = value.rsplit_once(" # ").expect("a source");
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let running = start(app(), &[]).await;
        let asked = HealthClient::new(running.channel())
            .list(HealthListRequest {})
            .await;
        Self {
            port: app().listen_port.into(),
            notes_memory: settings
                .get("NOTES_MEMORY")
                .map_or(0, |bytes| bytes_in(0..=u64::MAX)(bytes).expect("bytes")),
            settings: settings.into_keys().collect(),
            metrics: get(running.admin, "/metrics").await.1,
            services: asked
                .expect("a list")
                .into_inner()
                .statuses
                .into_keys()
                .collect(),
            parse: Box::new(move |arguments, environment| {
                let lookup = |variable: &str| environment.get(variable).map(OsString::from);
                match app()
                    .parse(arguments, lookup)
                    .map_err(|error| error.to_string())?
                {
                    Invocation::Serve(config, _) => Ok(Some(*config)),
                    Invocation::PrintConfig(_) | Invocation::Healthcheck(_) => Ok(None),
                }
            }),
        }
    }

    /// Whether it serves this service.
    pub(super) fn serves(&self, service: &str) -> bool {
        !service.is_empty() && self.services.contains(service)
    }

    /// Its settings in this environment.
    pub(super) fn config(&self, environment: &Environment) -> Result<Config, String> {
        (self.parse)(&[], environment)?.ok_or_else(|| "not a server".to_owned())
    }

    /// Whether this is a command line that it takes.
    pub(super) fn takes(&self, arguments: &[&str]) -> bool {
        (self.parse)(arguments, &Environment::new()).is_ok()
    }
}
