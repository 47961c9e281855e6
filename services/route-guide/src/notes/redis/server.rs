//! The Redis server or cluster that the settings name, and connections to it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chassis::{Error, nonzero_period};
use clap::{
    Arg, Command,
    builder::{BoolishValueParser, TypedValueParser},
    error::ErrorKind,
};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisError, RedisResult, ScriptInvocation, TlsCertificates,
    aio::MultiplexedConnection,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use secrecy::{ExposeSecret as _, SecretString};

/// The byte order mark that some editors write at the start of a file.
const MARK: char = '\u{feff}';

/// The Redis server, and how to connect to it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "RouteChat's notes in Redis")]
pub(crate) struct RedisSettings {
    /// Redis or Valkey to keep notes in, for all servers that share it: redis://[USER@]HOST[:PORT][/DB], or
    /// rediss:// for TLS [default: the memory of this process]
    #[arg(long, value_parser = Url)]
    pub(crate) notes_url: Option<ConnectionInfo>,

    /// Whether NOTES_URL names a node of a cluster, or its configuration endpoint
    #[arg(long, default_value = "false", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    notes_cluster: bool,

    /// Password for NOTES_URL; prefer the variable: other users can see command lines
    #[arg(long, requires = "notes_url")]
    notes_password: Option<SecretString>,

    /// File with the password for NOTES_URL, read for each connection
    #[arg(long, requires = "notes_url", conflicts_with = "notes_password")]
    notes_password_file: Option<PathBuf>,

    /// PEM file with the authorities that rediss:// trusts [default: the system's]
    #[arg(long, requires = "notes_url")]
    notes_ca: Option<PathBuf>,

    /// Whether routeguide.RouteGuide is NOT_SERVING while NOTES_URL is unavailable
    #[arg(long, default_value = "false", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub(crate) notes_required: bool,

    /// Maximum time a note may wait for NOTES_URL
    #[arg(long, default_value = "150ms", value_parser = nonzero_period)]
    pub(crate) notes_timeout: humantime::Duration,
}

/// Parses a URL. It is not a function, because clap shows a value that a function refuses, and it may
/// contain a password.
#[derive(Clone)]
struct Url;

impl TypedValueParser for Url {
    type Value = ConnectionInfo;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<ConnectionInfo, clap::Error> {
        url(value.to_str().unwrap_or_default()).map_err(|problem| {
            let text = format!("--notes-url <NOTES_URL>: {problem}\n");
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

fn url(text: &str) -> Result<ConnectionInfo, String> {
    const FORM: &str = "redis://[USER@]HOST[:PORT][/DB] is needed, or rediss://";
    let info = text.into_connection_info().map_err(|_| FORM.to_owned())?;
    // The last is `#insecure`: TLS without verification.
    if let ConnectionAddr::Unix(_) | ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
        return Err(FORM.to_owned());
    }
    if info.redis_settings().password().is_some() {
        return Err(
            "no password here: NOTES_PASSWORD_FILE or NOTES_PASSWORD is its place".to_owned(),
        );
    }
    // This detects a dead peer even on connections without writes: those to the nodes of a cluster.
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(Duration::from_secs(10)))
        .set_user_timeout(Duration::from_secs(2));
    Ok(info.set_tcp_settings(tcp))
}

/// A client that opens connections.
enum Server {
    Node(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// A connection; any number of clones can be used concurrently.
#[derive(Clone)]
pub(crate) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl RedisSettings {
    /// Whether notes are stored in Redis. An error if these settings or files are invalid.
    pub(crate) fn check(&self) -> Result<bool, Error> {
        let needs_url = [
            ("NOTES_CLUSTER", self.notes_cluster),
            ("NOTES_REQUIRED", self.notes_required),
        ];
        if self.notes_url.is_some() {
            self.server().map(|_| true)
        } else if let Some((variable, _)) = needs_url.iter().find(|(_, set)| *set) {
            Err(format!("{variable}=true needs NOTES_URL").into())
        } else {
            Ok(false)
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        Ok(match self.server()? {
            Server::Node(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(None)
                    .set_response_timeout(None);
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                Connection::Node(connection.await.map_err(|error| said(&error))?)
            }
            Server::Cluster(client) => {
                let connection = client.get_async_connection().await;
                Connection::Cluster(connection.map_err(|error| said(&error))?)
            }
        })
    }

    /// The server, with the current content of the files.
    fn server(&self) -> Result<Server, Error> {
        let info = (self.notes_url.clone()).ok_or("NOTES_URL is not set")?;
        let settings = info.redis_settings().clone();
        let info = match self.password()? {
            Some(password) => {
                info.set_redis_settings(settings.set_password(password.expose_secret()))
            }
            None if settings.username().is_some() => {
                return Err(
                    "NOTES_URL names a user, who needs NOTES_PASSWORD_FILE or NOTES_PASSWORD"
                        .into(),
                );
            }
            None => info,
        };
        let ca = self.notes_ca.as_deref().map(certificates).transpose()?;
        let certificates = ca.map(|pem| TlsCertificates {
            client_tls: None,
            root_cert: Some(pem.into_bytes()),
        });
        let server = if self.notes_cluster {
            cluster(info, certificates, *self.notes_timeout)
                .map(|client| Server::Cluster(client.into()))
        } else {
            match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates),
                None => Client::open(info),
            }
            .map(|client| Server::Node(client.into()))
        };
        Ok(server.map_err(|error| format!("NOTES_URL: {}", said(&error)))?)
    }

    fn password(&self) -> Result<Option<SecretString>, Error> {
        let Some(path) = &self.notes_password_file else {
            return Ok(self.notes_password.clone());
        };
        let text = SecretString::from(read("NOTES_PASSWORD_FILE", path)?);
        let password = text.expose_secret().trim_start_matches(MARK).trim_end();
        Ok(Some(password.into()))
    }
}

fn cluster(
    info: ConnectionInfo,
    certificates: Option<TlsCertificates>,
    timeout: Duration,
) -> RedisResult<ClusterClient> {
    let tcp = info.tcp_settings().clone();
    let builder = ClusterClientBuilder::new([info])
        .tcp_settings(tcp)
        // A node that hangs should not use up the timeout of a note on another node.
        .connection_timeout(timeout / 2)
        // Callers have their own timeout.
        .response_timeout(2 * timeout)
        .overall_response_timeout(None)
        // Enough for a slot that is migrated meanwhile.
        .retries(4)
        .min_retry_wait(5)
        .max_retry_wait(50);
    match certificates {
        Some(certificates) => builder.certs(certificates).build(),
        None => builder.build(),
    }
}

/// The CA certificates in a file, at least one.
fn certificates(path: &Path) -> Result<String, Error> {
    const VARIABLE: &str = "NOTES_CA";
    let text = read(VARIABLE, path)?;
    chassis::pem::certificates(text.as_bytes())
        .map_err(|damage| format!("{VARIABLE}={}: {damage}", path.display()))?;
    Ok(text.trim_start_matches(MARK).to_owned())
}

fn read(variable: &str, path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path);
    Ok(text.map_err(|error| format!("{variable}={}: {error}", path.display()))?)
}

/// The text of an error, in the server's words if the server sent it.
pub(crate) fn said(error: &RedisError) -> String {
    let text = error.to_string();
    if text.contains("authentication failed") {
        // The client does not pass on the server's message.
        return "WRONGPASS, or another refusal of the user and password".to_owned();
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail:.200}"),
        _ => text,
    }
}

impl Connection {
    /// Whether a new connection is needed. A cluster client reconnects to each node by itself, unless the
    /// connection is black-holed.
    pub(crate) fn breaks_for_good(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    /// Runs a script that returns a list.
    pub(crate) async fn run(mut self, script: &ScriptInvocation<'_>) -> RedisResult<Vec<Vec<u8>>> {
        match &mut self {
            Self::Node(connection) => script.invoke_async(connection).await,
            Self::Cluster(connection) => script.invoke_async(connection).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use secrecy::ExposeSecret as _;

    use super::RedisSettings;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        redis: RedisSettings,
    }

    #[test]
    fn a_password_is_used_and_not_shown() {
        let line = ["", "--notes-url=redis://a", "--notes-password=open sesame"];
        let line = Line::try_parse_from(line).expect("settings");
        let shown = format!("{line:?} {:?}", line.redis.password());
        assert!(
            shown.contains("redis") && !shown.contains("sesame"),
            "{shown}"
        );
        let password = line.redis.password().expect("no file").expect("one");
        assert_eq!(password.expose_secret(), "open sesame");
    }
}
