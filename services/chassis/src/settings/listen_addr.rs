//! Addresses to listen on, in the usual notations.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The address to listen on, as set; a host name is resolved at startup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// `:PORT`, or only a port: every address, IPv6 and IPv4.
    Every(u16),
    /// An address and a port.
    Ip(SocketAddr),
    /// The name of a host and a port.
    Name(String, u16),
}

impl ListenAddr {
    /// The port; 0 means any free port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Every(port) | Self::Name(_, port) => *port,
            Self::Ip(addr) => addr.port(),
        }
    }

    /// The next port of the same host, or any free port if there is none.
    pub(crate) fn next(&self) -> Self {
        let next = match self.port() {
            0 => 0,
            port => port.checked_add(1).unwrap_or(0),
        };
        match self {
            Self::Every(_) => Self::Every(next),
            Self::Ip(addr) => Self::Ip(SocketAddr::new(addr.ip(), next)),
            Self::Name(name, _) => Self::Name(name.clone(), next),
        }
    }

    /// `HOST:PORT` to connect to from the same machine: a listen address is not always one to connect to.
    pub(crate) fn to_dial(&self) -> String {
        let local = match self {
            Self::Every(port) => (Ipv4Addr::LOCALHOST, *port).into(),
            Self::Ip(addr) if addr.ip().is_unspecified() && addr.is_ipv6() => {
                (Ipv6Addr::LOCALHOST, addr.port()).into()
            }
            Self::Ip(addr) if addr.ip().is_unspecified() => {
                (Ipv4Addr::LOCALHOST, addr.port()).into()
            }
            Self::Ip(addr) => *addr,
            Self::Name(..) => return self.to_string(),
        };
        local.to_string()
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(port) => write!(f, ":{port}"),
            Self::Ip(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(addr) = text.parse() {
            return Ok(Self::Ip(addr));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // `u16` would also accept a sign.
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number && !text.contains(':') {
            return Err("expected HOST:PORT, or :PORT for every address");
        }
        let port =
            (port.parse().ok().filter(|_| is_number)).ok_or("the port must be 0 to 65535")?;
        match host {
            "" => Ok(Self::Every(port)),
            host if host.contains([':', '[', ']']) => {
                Err("expected an IPv6 address in brackets, such as [::1]:9000")
            }
            host if is_host_name(host) => Ok(Self::Name(host.to_owned(), port)),
            _ => Err("the host must be an IP address or a DNS name"),
        }
    }
}

/// Whether this can be a DNS name. A text without letters is a malformed IPv4 address.
fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    host.len() <= 253
        && host.bytes().all(allowed)
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::ListenAddr;

    #[test]
    fn addresses_are_shown_as_they_were_given_and_have_one_to_dial() {
        for (given, shown, next, to_dial) in [
            (":9000", ":9000", ":9001", "127.0.0.1:9000"),
            ("9000", ":9000", ":9001", "127.0.0.1:9000"),
            (":0", ":0", ":0", "127.0.0.1:0"),
            (":65535", ":65535", ":0", "127.0.0.1:65535"),
            ("0.0.0.0:7", "0.0.0.0:7", "0.0.0.0:8", "127.0.0.1:7"),
            ("[::]:7", "[::]:7", "[::]:8", "[::1]:7"),
            ("10.0.0.1:7", "10.0.0.1:7", "10.0.0.1:8", "10.0.0.1:7"),
            ("localhost:7", "localhost:7", "localhost:8", "localhost:7"),
            (
                "my-host.internal:7",
                "my-host.internal:7",
                "my-host.internal:8",
                "my-host.internal:7",
            ),
        ] {
            let addr: ListenAddr = given.parse().expect(given);
            let found = [addr.to_string(), addr.next().to_string(), addr.to_dial()];
            assert_eq!(found, [shown, next, to_dial], "{given}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for given in [
            "",
            ":",
            "localhost",
            "localhost:",
            "localhost:http",
            ":65536",
            ":+1",
            ":-1",
            "::1",
            "::1:80",
            "[::1]",
            "[::1:80",
            "1.2.3:80",
            "1.2.3.400:80",
            "a b:80",
            "http://localhost:80",
            "ho\nst:80",
            "a.b:80:81",
        ] {
            given.parse::<ListenAddr>().expect_err(given);
        }
        let long = format!("{}:80", "a".repeat(254));
        long.parse::<ListenAddr>().expect_err("too long a name");
    }
}
