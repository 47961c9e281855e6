//! Server verification and the client certificate, read again for each connection, so that certificates can be
//! replaced without a restart.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Server verification.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those that an authority of the system has signed.
    #[default]
    System,
    /// Those that an authority in this PEM file has signed.
    Authorities(PathBuf),
    /// Any: the connection is secret, but nobody knows with whom.
    InsecureSkipVerify,
}

/// The files of TLS, and the last configuration that could be made of them.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    trust: Trust,
    identity: Option<(PathBuf, PathBuf)>,
    last: Arc<Mutex<Arc<ClientConfig>>>,
}

impl Tls {
    /// Fails if the files are not good now. If they are not later, the last good ones stand.
    pub(crate) fn new(trust: Trust, identity: Option<(PathBuf, PathBuf)>) -> Result<Self, String> {
        let config = load(&trust, identity.as_ref())?;
        let last = Arc::new(Mutex::new(Arc::new(config)));
        Ok(Self {
            trust,
            identity,
            last,
        })
    }

    /// What the files say now.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let has_files = self.identity.is_some() || matches!(self.trust, Trust::Authorities(_));
        if has_files && let Ok(config) = load(&self.trust, self.identity.as_ref()) {
            *last = Arc::new(config);
        }
        last.clone()
    }
}

fn load(trust: &Trust, identity: Option<&(PathBuf, PathBuf)>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match trust {
        Trust::System => builder.with_root_certificates(system_roots()?),
        Trust::Authorities(path) => builder.with_root_certificates(roots(path)?),
        Trust::InsecureSkipVerify => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::default())),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = read(certificate, pem::own_chain)?;
            let private = read(key, pem::private_key)?;
            (builder.with_client_auth_cert(chain, private))
                .map_err(|error| of(certificate, pem::said(&error)))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) if roots.is_empty() => Err(error.to_string()),
        None if roots.is_empty() => Err("the system has no certificates of authorities".to_owned()),
        _ => Ok(roots),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read(path, pem::certificates)? {
        (roots.add(certificate)).map_err(|error| of(path, pem::said(&error)))?;
    }
    Ok(roots)
}

fn read<T>(path: &Path, parse: fn(&[u8]) -> Result<T, pem::Damage>) -> Result<T, String> {
    let file = fs::read(path).map_err(|error| of(path, error))?;
    parse(&file).map_err(|damage| of(path, damage))
}

fn of(path: &Path, error: impl fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// [`Trust::InsecureSkipVerify`]: the server's signatures must be sound, its certificate may be anybody's.
#[derive(Debug)]
pub struct AnyCertificate(CryptoProvider);

impl Default for AnyCertificate {
    fn default() -> Self {
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
