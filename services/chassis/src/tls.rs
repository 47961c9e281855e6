//! TLS for the gRPC listener, from PEM files.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::{Config, Error};

/// TLS as the configuration asks for it: none, the server's certificate, or both sides'.
pub(crate) fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, Error> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else {
        return Ok(None);
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &config.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authorities(ca)?, provider)
                .build()
                .map_err(|error| format!("TLS_CLIENT_CA={}: {error}", ca.display()))?,
        ),
    };
    let private_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("TLS_KEY={}: {error}", key.display()))?;
    let mut tls = builder
        .with_single_cert(certificates("TLS_CERT", cert)?, private_key)
        .map_err(|error| {
            format!(
                "TLS_CERT={}, TLS_KEY={}: {error}",
                cert.display(),
                key.display()
            )
        })?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}

fn authorities(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("TLS_CLIENT_CA", path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("TLS_CLIENT_CA={}: {error}", path.display()))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(variable: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let problem = |error: &dyn std::fmt::Display| format!("{variable}={}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(&error))?;
    if certificates.is_empty() {
        return Err(problem(&"no certificate in this file").into());
    }
    Ok(certificates)
}
