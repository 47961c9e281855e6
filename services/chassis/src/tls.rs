//! TLS for the gRPC listener, from PEM files that may change while the server runs.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{net::TcpStream, sync::Semaphore, time::sleep};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Config, Error, metrics::Metrics};

/// What is presented to clients now, and the files that it came from.
#[derive(Clone)]
pub(crate) struct Tls {
    files: Arc<Files>,
    current: Arc<Mutex<Current>>,
    /// The handshakes that may go on at once. Of thousands of clients that come back together, some
    /// are served while the others wait, where all would run out of time together.
    handshakes: Arc<Semaphore>,
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// Why what is in the files now is not what is presented.
    problem: Option<String>,
}

/// What was in the files.
#[derive(PartialEq)]
struct Pems {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// TLS as the configuration asks for it: none, the server's certificate, or both sides'.
    pub(crate) async fn read(config: &Config) -> Result<Option<Self>, Error> {
        let (Some(cert), Some(key)) = (config.tls_cert.clone(), config.tls_key.clone()) else {
            return Ok(None);
        };
        // No peer alone can have all of them.
        let handshakes = 2 * config.limits.max_connections_per_peer as usize;
        let files = Files {
            cert,
            key,
            client_ca: config.tls_client_ca.clone(),
        };
        let pems = files.read().await?;
        let current = Current {
            acceptor: files.acceptor(&pems)?,
            problem: None,
        };
        Ok(Some(Self {
            files: Arc::new(files),
            current: Arc::new(Mutex::new(current)),
            handshakes: Arc::new(Semaphore::new(handshakes)),
        }))
    }

    /// Shakes hands, or waits for its turn to.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        // Dropped with `self` at the latest, so it is never closed.
        let _turn = self.handshakes.acquire().await;
        let acceptor = self.current().acceptor.clone();
        // Boxed because it is large, and a future that it is moved through holds it twice.
        acceptor.accept(stream).await.map(Box::new)
    }

    /// Why what is in the files now is not what is presented.
    pub(crate) fn problem(&self) -> Option<String> {
        self.current().problem.clone()
    }

    /// Follows the files for ever. New handshakes use what is in them; if it cannot be used, what was
    /// there before.
    ///
    /// By reading them, because that works on every file system and for Kubernetes, which changes none
    /// of the files but a link to their folder.
    pub(crate) async fn follow_files(&self, metrics: &Metrics) {
        const INTERVAL: Duration = Duration::from_secs(1);
        let mut seen = None;
        loop {
            let pems = self.files.read().await;
            let pems = pems.map_err(|error| error.to_string());
            if seen.as_ref() != Some(&pems) {
                let acceptor = pems.as_ref().map_err(String::clone).and_then(|pems| {
                    (self.files.acceptor(pems)).map_err(|error| error.to_string())
                });
                self.present(acceptor, seen.is_some(), metrics);
                seen = Some(pems);
            }
            sleep(INTERVAL).await;
        }
    }

    fn present(&self, acceptor: Result<TlsAcceptor, String>, anew: bool, metrics: &Metrics) {
        metrics.certificate_problem.set(acceptor.is_err().into());
        let mut current = self.current();
        match acceptor {
            Ok(acceptor) => {
                current.acceptor = acceptor;
                current.problem = None;
                if anew {
                    tracing::info!("new certificates");
                }
            }
            Err(problem) => {
                tracing::warn!(problem, "keeping the old certificates");
                current.problem = Some(problem);
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing panics while it holds the lock.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    async fn read(&self) -> Result<Pems, Error> {
        Ok(Pems {
            cert: read("TLS_CERT", &self.cert).await?,
            key: read("TLS_KEY", &self.key).await?,
            client_ca: match &self.client_ca {
                Some(path) => Some(read("TLS_CLIENT_CA", path).await?),
                None => None,
            },
        })
    }

    fn acceptor(&self, pems: &Pems) -> Result<TlsAcceptor, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match (&self.client_ca, &pems.client_ca) {
            (Some(path), Some(pem)) => {
                builder.with_client_cert_verifier(client_verifier(path, pem, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_slice(&pems.key)
            .map_err(|error| problem("TLS_KEY", &self.key, &error))?;
        let mut tls = builder
            .with_single_cert(certificates("TLS_CERT", &self.cert, &pems.cert)?, key)
            .map_err(|error| {
                let (cert, key) = (self.cert.display(), self.key.display());
                format!("TLS_CERT={cert}, TLS_KEY={key}: {error}")
            })?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        if self.client_ca.is_some() {
            // A session that is taken up again would outlive the certificate it began with.
            tls.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(TlsAcceptor::from(Arc::new(tls)))
    }
}

fn client_verifier(
    path: &Path,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    const VARIABLE: &str = "TLS_CLIENT_CA";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(VARIABLE, path, pem)? {
        (roots.add(certificate)).map_err(|error| problem(VARIABLE, path, &error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| problem(VARIABLE, path, &error))
}

async fn read(variable: &str, path: &Path) -> Result<Vec<u8>, Error> {
    let pem = tokio::fs::read(path).await;
    pem.map_err(|error| problem(variable, path, &error))
}

fn certificates(
    variable: &str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| problem(variable, path, &error))?;
    if certificates.is_empty() {
        return Err(problem(variable, path, &"no certificate in this file"));
    }
    Ok(certificates)
}

fn problem(variable: &str, path: &Path, error: &dyn fmt::Display) -> Error {
    format!("{variable}={}: {error}", path.display()).into()
}
