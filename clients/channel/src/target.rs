//! The target of a channel.

use std::{fmt, io, net::SocketAddr, pin::Pin, str::FromStr as _, sync::Arc};

use http::uri::{Authority, Scheme};
use tokio::net::lookup_host;

/// The target of a channel: one server, several, or a name that stands for as many as DNS says.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) hosts: Hosts,
}

#[derive(Debug, Clone)]
pub(crate) enum Hosts {
    /// Each is a connection; its name is looked up whenever it connects.
    Each(Vec<Authority>),
    /// Every address of the name is a connection.
    Named(Authority, Resolver),
}

type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// What a name stands for at the moment.
#[derive(Clone)]
pub(crate) struct Resolver(pub(crate) Arc<dyn Fn() -> Addresses + Send + Sync>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Target {
    /// Reads `HOST:PORT`, or several, separated by commas; or `dns:///HOST:PORT`. `http://` or
    /// `https://` before it says whether to use TLS; without, `tls` does. The port may be left out
    /// where it is 80 or 443.
    ///
    /// The error says what is wrong.
    pub fn parse(text: &str, tls: bool) -> Result<Self, String> {
        let by_default = if tls { Scheme::HTTPS } else { Scheme::HTTP };
        let (scheme, hosts) = match text.split_once("://") {
            Some(("http", hosts)) => (Scheme::HTTP, hosts),
            Some(("https", hosts)) => (Scheme::HTTPS, hosts),
            Some(("dns", name)) => {
                let name = name.strip_prefix('/').ok_or("expected dns:///HOST:PORT")?;
                let authority = authority(name, &by_default)?;
                return Ok(Self::named(authority, by_default));
            }
            Some(_) => return Err("neither http://, https:// nor dns:///".to_owned()),
            None => (by_default, text),
        };
        let mut each = Vec::new();
        for host in hosts.strip_suffix('/').unwrap_or(hosts).split(',') {
            let host = authority(host, &scheme)?;
            if !each.contains(&host) {
                each.push(host);
            }
        }
        let hosts = Hosts::Each(each);
        Ok(Self { scheme, hosts })
    }

    fn named(authority: Authority, scheme: Scheme) -> Self {
        let name = authority.to_string();
        let resolver = move || -> Addresses {
            let name = name.clone();
            Box::pin(async move { Ok(lookup_host(name).await?.collect()) })
        };
        let hosts = Hosts::Named(authority, Resolver(Arc::new(resolver)));
        Self { scheme, hosts }
    }

    /// Has something other than DNS say which addresses the name stands for.
    #[must_use]
    pub fn resolved_by<F>(mut self, resolve: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        if let Hosts::Named(_, resolver) = &mut self.hosts {
            *resolver = Resolver(Arc::new(move || Box::pin(resolve())));
        }
        self
    }

    /// Whether calls go over TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether there may be several servers, so that calls are spread and health is watched.
    pub(crate) fn is_several(&self) -> bool {
        match &self.hosts {
            Hosts::Each(hosts) => hosts.len() > 1,
            Hosts::Named(..) => true,
        }
    }
}

fn authority(text: &str, scheme: &Scheme) -> Result<Authority, String> {
    let wrong = |why: &dyn fmt::Display| format!("{text:?}: {why}");
    let authority = Authority::from_str(text).map_err(|error| wrong(&error))?;
    if text.contains('@') || authority.host().is_empty() {
        return Err(wrong(&"expected HOST:PORT"));
    }
    if authority.port().is_none() {
        if text.ends_with(':') || authority.as_str().len() != authority.host().len() {
            return Err(wrong(&"no port number"));
        }
        let port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        return Authority::from_str(&format!("{text}:{port}")).map_err(|error| wrong(&error));
    }
    if authority.port_u16().is_none() {
        return Err(wrong(&"no port number"));
    }
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use super::{Hosts, Target};

    fn parsed(text: &str) -> (bool, String) {
        let target = Target::parse(text, true).expect(text);
        let hosts = match &target.hosts {
            Hosts::Each(hosts) => {
                let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                hosts.join(" ")
            }
            Hosts::Named(name, _) => format!("dns {name}"),
        };
        (target.is_tls(), hosts)
    }

    #[test]
    fn one_several_and_a_name() {
        for (text, tls, hosts) in [
            ("http://a:1", false, "a:1"),
            ("https://a:1/", true, "a:1"),
            ("http://[::1]:1,b:2", false, "[::1]:1 b:2"),
            ("a:1,b:2,a:1", true, "a:1 b:2"),
            ("https://a,http.b", true, "a:443 http.b:443"),
            ("http://a", false, "a:80"),
            ("dns:///a:1", true, "dns a:1"),
        ] {
            assert_eq!(parsed(text), (tls, hosts.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "ftp://a",
            "http://",
            "a:b",
            "a:",
            "a:99999",
            "a:1,",
            "a:1/b",
            "a@b:1",
            "dns://a:1",
            "dns:////a",
            "dns:///a:1,b:2",
            "dns:///",
            "a b",
            "http://[::1",
        ] {
            assert!(Target::parse(text, false).is_err(), "{text}");
        }
    }
}
