//! The flags that say whom to call and how, named as grpcurl names them, and the channel they make.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::time::timeout;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{Failure, failure::causes};

/// Whom to call and how.
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
    authority: Option<String>,

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

/// A connection that is made at the first call, and sends what the command line says with each.
pub type Channel = InterceptedService<tonic::transport::Channel, Outgoing>;

impl Connection {
    /// A channel to `addr`: `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`, which means TLS
    /// unless --plaintext is given.
    pub fn channel(&self, addr: &str) -> Result<Channel, Failure> {
        let endpoint = self.endpoint(addr)?;
        let headers = self
            .headers
            .iter()
            .map(|header| (header.name.clone(), header.value.clone()));
        let outgoing = Outgoing {
            headers: headers.collect(),
            max_time: self.max_time,
        };
        Ok(InterceptedService::new(endpoint.connect_lazy(), outgoing))
    }

    /// Runs one call, to the end of its stream, within --max-time.
    pub async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(self.max_time, call)
            .await
            .unwrap_or_else(|_| Err(Failure::deadline_exceeded()))
    }

    fn endpoint(&self, addr: &str) -> Result<Endpoint, Failure> {
        let unusable =
            |problem: &dyn std::fmt::Display| Failure::Usage(format!("{addr}: {problem}"));
        let (scheme, host) = match addr.split_once("://") {
            Some((scheme @ ("http" | "https"), host)) => (scheme, host),
            Some(_) => return Err(unusable(&"neither http:// nor https://")),
            None => (if self.plaintext { "http" } else { "https" }, addr),
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{host}"))
            .map_err(|error| unusable(&error))?
            .connect_timeout(self.connect_timeout);
        let mut name = None;
        if let Some(authority) = &self.authority {
            let origin = Uri::from_str(&format!("{scheme}://{authority}"))
                .map_err(|error| Failure::Usage(format!("--authority {authority}: {error}")))?;
            name = origin.host().map(str::to_owned);
            endpoint = endpoint.origin(origin);
        }
        match scheme {
            "https" if self.plaintext => Err(unusable(&"--plaintext contradicts https://")),
            "https" => self.with_tls(endpoint, name.as_deref()),
            _ if self.insecure || self.cacert.is_some() || self.cert.is_some() => Err(unusable(
                &"--insecure, --cacert and --cert need TLS: use https://",
            )),
            _ => Ok(endpoint),
        }
    }

    fn with_tls(&self, endpoint: Endpoint, name: Option<&str>) -> Result<Endpoint, Failure> {
        let mut tls = ClientTlsConfig::new().timeout(self.connect_timeout);
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        if let Some(name) = name {
            tls = tls.domain_name(name.trim_matches(['[', ']']));
        }
        let endpoint = if self.insecure {
            endpoint.tls_config_with_verifier(tls, Arc::new(AnyCertificate::new()))
        } else if let Some(ca) = &self.cacert {
            endpoint.tls_config(tls.ca_certificate(Certificate::from_pem(read(ca)?)))
        } else {
            endpoint.tls_config(tls.with_native_roots())
        };
        endpoint.map_err(|error| {
            let causes: Vec<_> = causes(&error).map(ToString::to_string).collect();
            Failure::Usage(format!("TLS: {error}: {}", causes.join(": ")))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn duration(text: &str) -> Result<Duration, String> {
    // gRPC can say no more than eight digits of hours, and nobody waits for a day.
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

/// Puts the metadata and the deadline on every call.
#[derive(Debug, Clone)]
pub struct Outgoing {
    headers: HeaderMap,
    max_time: Duration,
}

impl Interceptor for Outgoing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().as_mut().extend(self.headers.clone());
        request.set_timeout(self.max_time);
        Ok(request)
    }
}

/// What --insecure asks for: the server's signatures must be sound, its certificate may be anybody's.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl AnyCertificate {
    fn new() -> Self {
        Self(ring::default_provider())
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
