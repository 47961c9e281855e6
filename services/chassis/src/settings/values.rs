//! Values of settings, in the forms in which people write them. Each parser's error is a part of a sentence,
//! to which clap adds the value, the flag and the variable.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use bytesize::ByteSize;
use humantime::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Where to listen, as it was given: a name is resolved at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// `:PORT`, or a port alone: every address, IPv6 and IPv4.
    Every(u16),
    /// An address and a port.
    Ip(SocketAddr),
    /// The name of a host and a port.
    Name(String, u16),
}

impl ListenAddr {
    /// The port; 0 is any that is free.
    pub fn port(&self) -> u16 {
        match self {
            Self::Every(port) | Self::Name(_, port) => *port,
            Self::Ip(addr) => addr.port(),
        }
    }

    /// The next port of the same host, or any that is free if there is none.
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

    /// `HOST:PORT` to dial from the same machine: an address to listen on is not always one to connect to.
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
        // `u16` would also take a sign.
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

/// Whether DNS could know such a name. What has no letter is an IPv4 address with a mistake in it.
fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    host.len() <= 253
        && host.bytes().all(allowed)
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// A time that can be added to any clock: at most a year. Digits alone are seconds.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 3600);
    let period: Duration = match text.parse() {
        Ok(seconds) => std::time::Duration::from_secs(seconds).into(),
        Err(_) => text
            .parse()
            .map_err(|error: humantime::DurationError| error.to_string())?,
    };
    if *period > LONGEST {
        return Err("more than a year".to_owned());
    }
    Ok(period)
}

/// A time of at most a year, and not nothing: many write 0 for "never", which this would turn into "at
/// once". To parse settings with.
pub fn nonzero_period(text: &str) -> Result<Duration, String> {
    match period(text)? {
        period if period.is_zero() => Err("must be more than nothing".to_owned()),
        period => Ok(period),
    }
}

/// A parser of numbers of bytes within `range`: `65536`, `64KiB` or `64Ki`, `64kB` or `64k` (of 1000).
pub fn bytes_in<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let ByteSize(bytes) = text
            .parse()
            .map_err(|_| "expected a number of bytes, such as 67108864, 64MiB or 64M".to_owned())?;
        let within = range.contains(&bytes).then_some(bytes);
        within
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| {
                let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
                format!("must be {least} to {most}")
            })
    }
}

/// Levels by target. A word alone must be a level: `Targets` would take `warning` for the name of a target,
/// write what that has to say, which is nothing, and be silent about all else.
pub(crate) fn log_levels(text: &str) -> Result<Targets, String> {
    const LEVELS: &str = "the levels are off, error, warn, info, debug and trace";
    for part in text.split(',') {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
        match target {
            _ if is_level => {}
            Some(target) => return Err(format!("\"{level}\" of {target} is no level; {LEVELS}")),
            None if level.is_empty() => return Err(format!("an empty part; {LEVELS}")),
            None => {
                return Err(format!(
                    "\"{level}\" is no level; {LEVELS}; for one target write TARGET=LEVEL, such as {level}=debug"
                ));
            }
        }
    }
    text.parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{ListenAddr, bytes_in, log_levels, nonzero_period, period};

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

    #[test]
    fn times_have_units_or_are_seconds() {
        for (given, milliseconds) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("150ms", 150),
            ("1m 30s", 90_000),
            ("0", 0),
        ] {
            assert_eq!(
                period(given).expect(given).as_millis(),
                milliseconds,
                "{given}"
            );
        }
        for given in [
            "",
            "s",
            "-1",
            "1.5",
            "5 parsecs",
            "31622401",
            "18446744073709551616",
        ] {
            period(given).expect_err(given);
        }
        for given in ["0", "0s", "00"] {
            nonzero_period(given).expect_err(given);
        }
    }

    #[test]
    fn sizes_have_units_of_1024_or_of_1000_and_bounds() {
        let parse = bytes_in::<u32>(10..=1 << 30);
        for (given, bytes) in [
            ("10", 10),
            ("64MiB", 64 << 20),
            ("64Mi", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("64M", 64_000_000),
            ("64MB", 64_000_000),
            ("1.5KiB", 1536),
        ] {
            assert_eq!(parse(given), Ok(bytes), "{given}");
        }
        for (given, problem) in [
            ("9", "must be 10 B to 1.0 GiB"),
            ("1073741825", "must be 10 B to 1.0 GiB"),
            ("99999999999999999999EiB", "must be 10 B to 1.0 GiB"),
            ("", "such as"),
            ("MiB", "such as"),
            ("-1", "such as"),
            ("64 pounds", "such as"),
        ] {
            let error = parse(given).expect_err(given);
            assert!(error.contains(problem), "{given}: {error}");
        }
        let error = bytes_in::<u8>(0..=1000)("256").expect_err("what the type cannot hold");
        assert!(error.contains("must be"), "{error}");
    }

    #[test]
    fn a_word_alone_must_be_a_level() {
        for given in [
            "info",
            "WARN",
            "off",
            "info,call=off",
            "access=trace",
            "h2=debug,info",
        ] {
            log_levels(given).expect(given);
        }
        for (given, hint) in [
            ("warning", "off, error, warn, info, debug and trace"),
            ("access", "access=debug"),
            ("info,access", "access=debug"),
            ("info,h2=loud", "\"loud\" of h2"),
            ("h2=", "\"\" of h2"),
            ("info,", "an empty part"),
            ("", "an empty part"),
            ("a=b=info", "\"b=info\" of a"),
            ("a[{b=info", "fields list"),
        ] {
            let error = log_levels(given).expect_err(given);
            assert!(error.contains(hint), "{given}: {error}");
        }
    }
}
