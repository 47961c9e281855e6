//! Peers that speak another protocol than the port does: what an operator debugs when no call arrives.

/// Why a connection cannot become one of gRPC, and what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// A name for metrics.
    pub(crate) reason: &'static str,
    pub(crate) hint: &'static str,
}

const TLS: Mismatch = Mismatch {
    reason: "tls_to_plaintext",
    hint: "the peer begins with TLS, and this port is plaintext: set TLS_CERT and TLS_KEY, or have it connect \
           without TLS",
};

const PLAINTEXT: Mismatch = Mismatch {
    reason: "plaintext_to_tls",
    hint: "the peer does not begin with TLS, and this port requires it: have it connect with TLS",
};

const HTTP1: Mismatch = Mismatch {
    reason: "http1",
    hint: "the peer speaks HTTP/1.1, and gRPC needs HTTP/2: the protocol version of a load balancer's target group \
           must be GRPC or HTTP2",
};

/// Judges by the first bytes of a peer, of which there is at least one.
pub(crate) fn mismatch(first: &[u8], port_is_tls: bool) -> Option<Mismatch> {
    // The content type of a handshake record: RFC 8446, 5.1.
    let is_tls = first.first() == Some(&22);
    // RFC 9113, 3.4.
    let is_http2 = b"PRI * HT".starts_with(first);
    let is_request = first
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    match (port_is_tls, is_tls) {
        (true, false) => Some(PLAINTEXT),
        (false, true) => Some(TLS),
        (false, false) if !is_http2 && is_request => Some(HTTP1),
        _ => None,
    }
}
