//! What a client certificate says of its owner.

use std::fmt;

use rustls::pki_types::CertificateDer;

/// A name in the subjectAltName of a certificate. An authority may let anybody have a URI that reads like
/// somebody's DNS name, so the one is never taken for the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// Such as a SPIFFE ID.
    Uri(String),
    /// A host name.
    Dns(String),
}

impl CertificateName {
    /// The name that a rule means.
    pub(crate) fn in_rule(text: &str) -> Self {
        match text.contains("://") {
            true => Self::Uri(text.to_owned()),
            false => Self::Dns(text.to_owned()),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(name) => write!(f, "URI {name}"),
            Self::Dns(name) => write!(f, "DNS {name}"),
        }
    }
}

/// The names that a client's certificate, already verified, has in its subjectAltName: URIs, such as
/// SPIFFE IDs, and DNS names.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<CertificateName> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let uris = certificate.valid_uri_names();
    let uris = uris.map(|name| CertificateName::Uri(name.to_owned()));
    let hosts = certificate.valid_dns_names();
    uris.chain(hosts.map(|name| CertificateName::Dns(name.to_owned())))
        .collect()
}
