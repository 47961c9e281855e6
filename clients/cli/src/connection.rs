//! The flags for the target and the connection, named as grpcurl names them, and the channel they configure.

use std::{path::PathBuf, str::FromStr, time::Duration};

use channel::{Settings, Target, Trust};
use http::{HeaderMap, HeaderName, HeaderValue, uri::Authority};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
};

use crate::Failure;

/// The target, and how to call it.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// Speak plaintext to an address without http:// or https:// before it
    #[arg(long, global = true, conflicts_with_all = ["insecure", "cacert", "cert"])]
    plaintext: bool,

    /// Take any certificate from the server
    #[arg(long, global = true, conflicts_with = "cacert")]
    insecure: bool,

    /// PEM file with the authorities to trust [default: the system's]
    #[arg(long, global = true)]
    cacert: Option<PathBuf>,

    /// PEM file with the certificate to show, for mTLS
    #[arg(long, global = true, requires = "key")]
    cert: Option<PathBuf>,

    /// PEM file with the private key of --cert
    #[arg(long, global = true, requires = "cert")]
    key: Option<PathBuf>,

    /// The :authority to send and the name to expect in the server's certificate
    #[arg(long, global = true)]
    authority: Option<Authority>,

    /// Metadata to send with each call; a value for a name that ends in -bin is base64
    #[arg(
        short = 'H',
        global = true,
        long = "header",
        value_name = "NAME: VALUE"
    )]
    headers: Vec<Header>,

    /// How long connecting may take, such as 500ms; a bare number is seconds
    #[arg(long, global = true, default_value = "10", value_parser = duration)]
    connect_timeout: Duration,

    /// How long one call may take, from its start to the end of its stream
    #[arg(long, global = true, default_value = "30", value_parser = duration)]
    max_time: Duration,
}

/// A channel that adds the command line's metadata and deadline to each call.
pub type Channel = InterceptedService<channel::Channel, Outgoing>;

impl Connection {
    /// A channel to `addr`: `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`, which means TLS
    /// unless --plaintext is set; several of them, or a `dns:///` name. `service` is the service to
    /// call, and `idempotent` the paths of its methods that are safe to retry.
    pub fn channel(
        &self,
        addr: &str,
        service: &str,
        idempotent: &'static [&'static str],
    ) -> Result<Channel, Failure> {
        let unusable = |problem: &str| Failure::Usage(format!("{addr}: {problem}"));
        let target = Target::parse(addr, !self.plaintext).map_err(|error| unusable(&error))?;
        if target.is_tls() && self.plaintext {
            return Err(unusable("--plaintext contradicts https://"));
        }
        if !target.is_tls() && (self.insecure || self.cacert.is_some() || self.cert.is_some()) {
            return Err(unusable(
                "--insecure, --cacert and --cert need TLS: use https://",
            ));
        }
        let settings = Settings {
            authority: self.authority.clone(),
            trust: match &self.cacert {
                _ if self.insecure => Trust::InsecureSkipVerify,
                Some(path) => Trust::Authorities(path.clone()),
                None => Trust::System,
            },
            identity: self.cert.clone().zip(self.key.clone()),
            connect_timeout: self.connect_timeout,
            health: Some(service.to_owned()),
            idempotent,
            ..Settings::default()
        };
        let channel = channel::Channel::new(target, settings)
            .map_err(|error| Failure::Usage(format!("TLS: {error}")))?;
        let headers = self
            .headers
            .iter()
            .map(|header| (header.name.clone(), header.value.clone()));
        let outgoing = Outgoing {
            headers: headers.collect(),
            max_time: self.max_time,
        };
        Ok(InterceptedService::new(channel, outgoing))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    // grpc-timeout holds at most eight digits of hours; a day is enough.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if duration > LONGEST {
        return Err("longer than a day".to_owned());
    }
    Ok(duration)
}

#[derive(Debug, Clone)]
struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("there is no colon in it")?;
        Ok(Self {
            name: name
                .trim()
                .parse()
                .map_err(|_| "the name has characters that it may not")?,
            value: value
                .trim()
                .parse()
                .map_err(|_| "the value has characters that it may not")?,
        })
    }
}

/// Adds the metadata to every call, and the deadline to calls without one.
#[derive(Debug, Clone)]
pub struct Outgoing {
    headers: HeaderMap,
    max_time: Duration,
}

impl Interceptor for Outgoing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().as_mut().extend(self.headers.clone());
        if !request.metadata().contains_key("grpc-timeout") {
            request.set_timeout(self.max_time);
        }
        Ok(request)
    }
}
