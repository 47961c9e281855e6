//! TCP: the kernel's, and for tests/simulation that of turmoil, where there are no sockets and so no options.

#[cfg(not(feature = "simulation"))]
pub(crate) use kernel::{attach, detach, listen, set_options};
#[cfg(feature = "simulation")]
pub(crate) use simulated::{attach, detach, listen, set_options};
#[cfg(not(feature = "simulation"))]
pub(crate) use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "simulation")]
pub(crate) use turmoil::net::{TcpListener, TcpStream};

#[cfg(not(feature = "simulation"))]
mod kernel {
    use std::{io, net::SocketAddr, time::Duration};

    use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

    use super::{TcpListener, TcpStream};

    /// Listens with a queue for bursts, such as after a rollout: a connection that finds it full waits a second
    /// for its next SYN. The kernel has a limit of its own (`net.core.somaxconn`, 4096).
    pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
        const QUEUE: i32 = 4096;
        let socket = Socket::new(
            Domain::for_address(addr),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // Whatever the machine's default is (`net.ipv6.bindv6only`).
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(QUEUE)?;
        TcpListener::from_std(socket.into())
    }

    /// How TCP treats our small messages, and a peer that has gone without a word.
    pub(crate) fn set_options(stream: &TcpStream) -> io::Result<()> {
        const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);

        let socket = SockRef::from(stream);
        // Messages are answered at once: waiting to fill a segment only adds delay.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        // gRFC A18: data that is not acknowledged for so long has no one to acknowledge it.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(Duration::from_secs(20)))?;
        Ok(())
    }

    /// A stream on its way to the runtime of another thread.
    pub(crate) type Detached = std::net::TcpStream;

    pub(crate) fn detach(stream: TcpStream) -> io::Result<Detached> {
        stream.into_std()
    }

    pub(crate) fn attach(stream: Detached) -> io::Result<TcpStream> {
        TcpStream::from_std(stream)
    }
}

#[cfg(feature = "simulation")]
mod simulated {
    use std::{io, net::SocketAddr};

    use futures_util::FutureExt as _;

    use super::{TcpListener, TcpStream};

    pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
        let bound = TcpListener::bind(addr).now_or_never();
        bound.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    pub(crate) fn set_options(_: &TcpStream) -> io::Result<()> {
        Ok(())
    }

    pub(crate) type Detached = TcpStream;

    pub(crate) fn detach(stream: TcpStream) -> io::Result<Detached> {
        Ok(stream)
    }

    pub(crate) fn attach(stream: Detached) -> io::Result<TcpStream> {
        Ok(stream)
    }
}
