//! Listening sockets, and the connections that they accept.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures_util::future;
use rustix::io::Errno;
use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};

use crate::{
    connection::tcp::{self, TcpListener, TcpStream},
    settings::{Error, listen_addr::ListenAddr},
    wire::address::canonical,
};

/// Listens on the address of a setting; a host name means its first address.
pub(crate) async fn listen(variable: &str, addr: &ListenAddr) -> Result<TcpListener, Error> {
    let bound = match addr {
        ListenAddr::Every(port) => on_every_address(*port, tcp::listen),
        ListenAddr::Ip(addr) => tcp::listen(*addr),
        ListenAddr::Name(name, port) => resolve(name, *port).await.and_then(tcp::listen),
    };
    Ok(bound.map_err(|error| format!("{variable}={addr}: {error}"))?)
}

async fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    let first = lookup_host((name, port)).await?.next();
    first.ok_or_else(|| io::Error::other("the name has no address"))
}

/// One dual-stack socket; IPv4 only where the kernel has no IPv6.
fn on_every_address<T>(port: u16, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    open((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            open((Ipv4Addr::UNSPECIFIED, port).into())
        }
        _ => Err(error),
    })
}

/// Accepts connections until `end`, each with the canonical address of its peer.
pub(crate) async fn accept(
    listener: &TcpListener,
    end: impl Future<Output = ()>,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    // Accepting mostly fails because the process is out of file descriptors. The queue stays
    // readable, so without a pause the loop would use a whole core until some are free again.
    const PAUSE: Duration = Duration::from_millis(50);

    let mut end = pin!(end);
    loop {
        match future::select(end.as_mut(), pin!(listener.accept())).await {
            future::Either::Left(_) => break,
            future::Either::Right((Ok((stream, peer)), _)) => serve(stream, canonical(peer)),
            future::Either::Right((Err(error), _)) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Accepts the connections that the kernel has queued, since closing the listener would reset them. Those
/// that arrive meanwhile are accepted, too, for a limited time.
pub(crate) async fn accept_queued(
    listener: &TcpListener,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    const QUIET: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(250);

    let queued = async {
        while let Ok(Ok((stream, peer))) = timeout(QUIET, listener.accept()).await {
            serve(stream, canonical(peer));
        }
    };
    let _ = timeout(LONGEST, queued).await;
}

#[cfg(test)]
mod tests {
    use std::{io, net::Ipv4Addr};

    use rustix::io::Errno;
    use tokio::net::{TcpListener, TcpStream};

    use super::on_every_address;

    #[test]
    fn every_address_is_ipv4_alone_only_where_there_is_no_ipv6() {
        let without_ipv6 = |problem: Errno| {
            on_every_address(7, |addr| match addr.is_ipv6() {
                true => Err(io::Error::from(problem)),
                false => Ok(addr.to_string()),
            })
        };
        for problem in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let bound = without_ipv6(problem).expect("bound");
            assert_eq!(bound, "0.0.0.0:7");
        }
        let taken = without_ipv6(Errno::ADDRINUSE).expect_err("a port that is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let bound = on_every_address(7, |addr| Ok(addr.to_string()));
        assert_eq!(bound.expect("bound"), "[::]:7");
    }

    #[tokio::test]
    async fn connections_that_wait_when_the_end_comes_are_accepted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(TcpStream::connect(addr).await.expect("queued"));
        }
        let mut accepted = 0;
        super::accept_queued(&listener, |_, _| accepted += 1).await;
        assert_eq!(accepted, waiting.len());
    }
}
