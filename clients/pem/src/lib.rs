//! Certificates and private keys from PEM files.
//!
//! The errors say what kind of damage there is and nothing that was read: those of rustls hold whole lines
//! of the file, and where its line ends have been lost, a line is the key.

use std::fmt;

use rustls::{
    Error,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

/// Why a PEM file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It has no section of a certificate.
    NoCertificate,
    /// It has no section of a private key.
    NoKey,
    /// A password is needed for the key, and there is no place to give it.
    EncryptedKey,
    /// A BEGIN line that is not whole or not alone in its line.
    Begin,
    /// A section that does not end, or whose line ends are lost.
    End,
    /// A section whose text is not base64.
    Base64,
    /// A section that is longer than any certificate or key.
    TooLarge,
    /// A certificate of the first version, which nobody takes for a server's or a client's.
    VersionOne,
    /// The section of a certificate holds something else.
    NotCertificate,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "no certificate in this file",
            Self::NoKey => "no private key in this file",
            Self::EncryptedKey => "encrypted private key: decrypt it first",
            Self::Begin => "damaged PEM: a BEGIN line that is not whole",
            Self::End => "damaged PEM: a BEGIN line without its END line",
            Self::Base64 => "damaged PEM: base64 is damaged",
            Self::TooLarge => "damaged PEM: a section without end",
            Self::VersionOne => "X.509 v1 certificate; v3 is needed",
            Self::NotCertificate => "damaged certificate",
        })
    }
}

impl std::error::Error for Damage {}

/// The file without the mark that some editors put before its first line, which would hide that line.
pub fn without_mark(file: &[u8]) -> &[u8] {
    file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file)
}

/// The first private key in a file.
pub fn private_key(file: &[u8]) -> Result<PrivateKeyDer<'static>, Damage> {
    let encrypted = ["-----BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
    let key = PrivateKeyDer::from_pem_slice(without_mark(file));
    key.map_err(|error| match damage(&error) {
        _ if encrypted.iter().any(|mark| contains(file, mark)) => Damage::EncryptedKey,
        None => Damage::NoKey,
        Some(damage) => damage,
    })
}

/// All certificates in a file, of which there is one at least.
pub fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, Damage> {
    let certificates = CertificateDer::pem_slice_iter(without_mark(file));
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(Damage::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(damage(&error).unwrap_or(Damage::NoCertificate)),
    }
}

/// The certificates that are to be shown to peers, the first of which is the shower's own.
pub fn own_chain(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, Damage> {
    let chain = certificates(file)?;
    match chain.first().map(webpki::EndEntityCert::try_from) {
        Some(Err(webpki::Error::UnsupportedCertVersion)) => Err(Damage::VersionOne),
        Some(Err(_)) => Err(Damage::NotCertificate),
        Some(Ok(_)) | None => Ok(chain),
    }
}

/// What rustls says of a certificate or key in a file, which it takes for a peer's.
pub fn said(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(problem) => format!("invalid certificate: {problem}"),
        error => error.to_string(),
    }
}

/// None is for a file without the section that is looked for.
fn damage(error: &pem::Error) -> Option<Damage> {
    match error {
        pem::Error::MissingSectionEnd { .. } => Some(Damage::End),
        pem::Error::IllegalSectionStart { .. } => Some(Damage::Begin),
        pem::Error::Base64Decode(_) => Some(Damage::Base64),
        pem::Error::SectionTooLarge => Some(Damage::TooLarge),
        _ => None,
    }
}

fn contains(file: &[u8], text: &str) -> bool {
    (file.windows(text.len())).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{Damage, certificates, private_key};

    const KEY: &str =
        "-----BEGIN PRIVATE KEY-----\nAAECAwQF\nBgcICQoL\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_kind_of_damage_is_told_apart() {
        let encrypted = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let old = KEY.replace("AAECAwQF", "Proc-Type: 4,ENCRYPTED");
        for (file, damage) in [
            (String::new(), Damage::NoKey),
            (KEY.replace("PRIVATE", "PUBLIC"), Damage::NoKey),
            (encrypted, Damage::EncryptedKey),
            (old, Damage::EncryptedKey),
            (KEY.replace('\n', " "), Damage::End),
            (KEY[..50].to_owned(), Damage::End),
            (KEY.replace("-----\nAAEC", "AAEC"), Damage::Begin),
            (KEY.replace("AAEC", "A%EC"), Damage::Base64),
        ] {
            assert_eq!(private_key(file.as_bytes()), Err(damage), "{file}");
        }
        assert_eq!(certificates(KEY.as_bytes()), Err(Damage::NoCertificate));
    }

    #[test]
    fn a_mark_before_the_first_line_is_skipped() {
        private_key(KEY.as_bytes()).expect("a key");
        private_key(format!("\u{feff}{KEY}").as_bytes()).expect("a key");
        private_key(KEY.replace('\n', "\r\n").as_bytes()).expect("a key");
    }
}
