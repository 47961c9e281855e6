//! Certificates, and clients that show and see them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An authority, and a folder for what it signs.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn text(&self, file: &str) -> String {
        self.path(file).to_str().expect("text").to_owned()
    }

    /// Makes a folder with `tls.pem` and `tls.key` for this address or DNS name.
    pub(crate) fn issue(&self, folder: &str, name: &str) -> CertificateDer<'static> {
        let folder = self.path(folder);
        fs::create_dir(&folder).expect("a new folder");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        fs::write(folder.join("tls.pem"), certificate.pem()).expect("written");
        fs::write(folder.join("tls.key"), key.serialize_pem()).expect("written");
        certificate.der().clone()
    }

    /// A client that trusts this authority, and shows the certificate in `folder` if there is one.
    pub(crate) fn client(&self, folder: Option<&Path>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match folder {
            None => builder.with_no_client_auth(),
            Some(folder) => {
                let certificate = CertificateDer::from_pem_file(folder.join("tls.pem"));
                let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).expect("a key");
                builder
                    .with_client_auth_cert(vec![certificate.expect("a certificate")], key)
                    .expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A session that is resumed shows no new certificate.
        config.resumption = rustls::client::Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }
}

/// Shakes hands with a server that is known by its address.
pub(crate) async fn connect(
    client: &TlsConnector,
    addr: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    client
        .connect(ServerName::IpAddress(addr.ip().into()), stream)
        .await
}
