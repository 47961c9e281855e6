//! A balancer of connections, as an NLB or a ClusterIP is one: it knows nothing of calls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Gives each connection to the next of its backends. It ends when this is dropped.
pub(crate) struct Forwarder {
    pub(crate) addr: SocketAddr,
    backends: Arc<Mutex<Vec<SocketAddr>>>,
    _task: JoinSet<()>,
}

impl Forwarder {
    pub(crate) async fn start(backends: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let backends = Arc::new(Mutex::new(backends.to_vec()));
        let mut task = JoinSet::new();
        task.spawn(forward(listener, backends.clone()));
        Self {
            addr,
            backends,
            _task: task,
        }
    }

    /// Also uses these for connections that come from now on.
    pub(crate) fn add(&self, backends: &[SocketAddr]) {
        let mut all = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(backends);
    }
}

async fn forward(listener: TcpListener, backends: Arc<Mutex<Vec<SocketAddr>>>) {
    let mut connections = JoinSet::new();
    for nth in 0.. {
        let (mut client, _) = listener.accept().await.expect("a connection");
        let backend = {
            let all = backends.lock().unwrap_or_else(PoisonError::into_inner);
            all[nth % all.len()]
        };
        connections.spawn(async move {
            let mut server = TcpStream::connect(backend).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
