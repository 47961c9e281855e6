//! Client addresses, as they are logged and as limits count them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of a client. A socket for IPv6 and IPv4 has ::ffff:127.0.0.1 for 127.0.0.1.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// The address that stands for a client: an IPv4 address, or the /64 of an IPv6 address, since whoever has
/// one address of a /64 has all of them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}
