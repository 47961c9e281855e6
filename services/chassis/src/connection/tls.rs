//! TLS for the gRPC listener, from PEM files that may change while the server runs.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{Acceptor, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    connection::{handshake_turns::Turns, tcp::TcpStream},
    settings::{Error, config::Config},
    state::reloaded_files::{File, Reload, Reloaded},
};

/// What is presented to clients now, and the files that it came from.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<Reloaded<ServerConfig>>,
    /// The handshakes that may go on at once. Of thousands of clients that come back together, some
    /// are served while the others wait, where all would run out of time together.
    handshakes: Arc<Turns>,
}

impl Tls {
    /// TLS as the configuration asks for it: none, the server's certificate, or both sides'.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, Error> {
        let (Some(cert), Some(key)) = (config.tls_cert.clone(), config.tls_key.clone()) else {
            return Ok(None);
        };
        let share = (config.limits.max_connections_per_peer as usize / 4).max(1);
        let client_ca = config.tls_client_ca.clone();
        let paths = [
            ("TLS_CERT", Some(cert)),
            ("TLS_KEY", Some(key)),
            ("TLS_CLIENT_CA", client_ca),
        ];
        let files = paths.into_iter().filter_map(|(setting, path)| {
            let path = path?;
            Some(File { setting, path })
        });
        let config = Reloaded::read("certificates", files.collect(), server_config)?;
        Ok(Some(Self {
            config: Arc::new(config),
            handshakes: Arc::new(Turns::each(share)),
        }))
    }

    /// Completes the TLS handshake after the peer's ClientHello has arrived, when it is the peer's turn: a peer
    /// that sends nothing takes no turn from others.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> io::Result<Box<TlsStream<TcpStream>>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let handshake = async { hello.into_stream(self.config.current()).await };
        // Boxed because it is large, and a future that it is moved through holds it twice.
        (self.handshakes.take(peer.ip(), handshake).await).map(Box::new)
    }

    /// The files, to be followed.
    pub(crate) fn files(&self) -> Arc<dyn Reload> {
        self.config.clone()
    }
}

fn server_config(files: &[(&File, &[u8])]) -> Result<ServerConfig, Error> {
    let [(cert, cert_pem), (key, key_pem), client_ca @ ..] = files else {
        return Err("TLS_CERT and TLS_KEY are needed".into());
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        [(file, pem), ..] => {
            builder.with_client_cert_verifier(client_verifier(file, pem, provider)?)
        }
        [] => builder.with_no_client_auth(),
    };
    let chain = pem::own_chain(cert_pem).map_err(|damage| cert.problem(&damage))?;
    let private = pem::private_key(key_pem).map_err(|damage| key.problem(&damage))?;
    let mut tls = builder
        .with_single_cert(chain, private)
        .map_err(|error| format!("{cert}, {key}: {}", pem::said(&error)))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    if !client_ca.is_empty() {
        // A session that is taken up again would outlive the certificate it began with.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(tls)
}

fn client_verifier(
    file: &File,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let problem = |error: &dyn fmt::Display| file.problem(error);
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(pem).map_err(|damage| problem(&damage))? {
        (roots.add(certificate)).map_err(|error| problem(&pem::said(&error)))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| problem(&error))
}
