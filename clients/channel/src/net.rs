//! TCP: the kernel's, and for tests/simulation that of turmoil, where there are no sockets and so no options.

use std::io;

#[cfg(not(feature = "simulation"))]
pub(crate) use tokio::net::TcpStream;
#[cfg(feature = "simulation")]
pub(crate) use turmoil::net::TcpStream;

#[cfg(not(feature = "simulation"))]
pub(crate) fn set_options(stream: &TcpStream) -> io::Result<()> {
    use std::time::Duration;

    use socket2::{SockRef, TcpKeepalive};

    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    // No PING of HTTP/2: servers may take them for an attack (gRFC A8).
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&keepalive)?;
    // gRFC A18: who does not acknowledge for so long is gone.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(20)))?;
    Ok(())
}

#[cfg(feature = "simulation")]
pub(crate) fn set_options(_: &TcpStream) -> io::Result<()> {
    Ok(())
}
