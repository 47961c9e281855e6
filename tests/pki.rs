//! Certificates, made afresh for each test that wants some.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

/// An authority and what it has signed, as PEM files in a folder that goes with this.
pub(crate) struct Pki {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// An authority, `ca.pem`, and its server certificate for localhost and 127.0.0.1.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let pki = Self {
            folder: TempDir::new().expect("a folder"),
            authority,
        };
        pki.write("ca.pem", &pki.authority.pem());
        pki.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
        pki
    }

    /// Has the authority sign `NAME.pem` with the key `NAME.key`.
    pub(crate) fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) {
        let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(hosts).expect("names");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// The path of one of the files.
    pub(crate) fn path(&self, file: &str) -> String {
        self.file(file)
            .into_os_string()
            .into_string()
            .expect("text")
    }

    /// What one of the files holds.
    pub(crate) fn pem(&self, file: &str) -> String {
        fs::read_to_string(self.file(file)).expect("one of the files")
    }

    /// The environment of a server with TLS.
    pub(crate) fn tls(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TLS_CERT", self.path("server.pem")),
            ("TLS_KEY", self.path("server.key")),
        ]
    }

    /// The environment of a server with mTLS, whose clients this authority has signed.
    pub(crate) fn mtls(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.tls();
        environment.push(("TLS_CLIENT_CA", self.path("ca.pem")));
        environment
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, pem: &str) {
        fs::write(self.file(name), pem).expect("a file that can be written");
    }
}
