//! Certificates, made afresh for each test that wants some.

use std::{fs, net::IpAddr, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use tempfile::TempDir;

/// An authority and what it has signed, as PEM files in a folder that goes with this.
pub struct Pki {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// An authority, `ca.pem`, and its server certificate for localhost and 127.0.0.1.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
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
    pub fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) {
        self.sign(name, purpose, |_| {});
    }

    /// Likewise, for the bearer of this URI.
    pub fn issue_to(&self, name: &str, purpose: ExtendedKeyUsagePurpose, uri: &str) {
        let uri = SanType::URI(uri.try_into().expect("a URI"));
        self.sign(name, purpose, |params| params.subject_alt_names.push(uri));
    }

    /// Likewise, good until the beginning of `year`.
    pub fn issue_until(&self, name: &str, purpose: ExtendedKeyUsagePurpose, year: i32) {
        self.sign(name, purpose, |params| {
            params.not_after = date_time_ymd(year, 1, 1);
        });
    }

    /// Likewise, for a server at this address.
    pub fn issue_at(&self, name: &str, address: IpAddr) {
        self.sign(name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.subject_alt_names.push(SanType::IpAddress(address));
        });
    }

    fn sign(
        &self,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(hosts).expect("names");
        params.extended_key_usages = vec![purpose];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Has these files hold what `other` has in them.
    pub fn take_over(&self, other: &Self, files: &[&str]) {
        for file in files {
            self.write(file, &other.pem(file));
        }
    }

    /// The path of one of the files.
    pub fn path(&self, file: &str) -> String {
        self.file(file)
            .into_os_string()
            .into_string()
            .expect("text")
    }

    /// What one of the files holds.
    pub fn pem(&self, file: &str) -> String {
        fs::read_to_string(self.file(file)).expect("one of the files")
    }

    /// The environment of a server with TLS.
    pub fn tls(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TLS_CERT", self.path("server.pem")),
            ("TLS_KEY", self.path("server.key")),
        ]
    }

    /// The environment of a server with mTLS, whose clients this authority has signed.
    pub fn mtls(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.tls();
        environment.push(("TLS_CLIENT_CA", self.path("ca.pem")));
        environment
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the others.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("a file that can be written");
    }
}
