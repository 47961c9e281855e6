//! A TCP proxy that can do what networks do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// What is wrong now. Connections are numbered from 0 as they come; each fault of connections holds for
/// those below its number.
#[derive(Debug, Default, Clone, Copy)]
struct Faults {
    wedged: usize,
    mute: usize,
    cut: usize,
    delay: Duration,
}

/// A proxy in front of one server, until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    /// Where it listens.
    pub addr: SocketAddr,
    faults: watch::Sender<Faults>,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl FaultProxy {
    /// Starts one on a free port of the same address, with nothing wrong.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (faults, _) = watch::channel(Faults::default());
        let connections = Arc::<AtomicUsize>::default();
        let task = serve(listener, target, faults.clone(), connections.clone());
        Self {
            addr,
            faults,
            connections,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Swallows whatever is sent on the connections that are open now, their ends included.
    pub fn wedge(&self) {
        let open = self.connections();
        self.faults.send_modify(|faults| faults.wedged = open);
    }

    /// Swallows whatever the server sends on the connections that are open now: requests still pass.
    pub fn mute(&self) {
        let open = self.connections();
        self.faults.send_modify(|faults| faults.mute = open);
    }

    /// Closes the connections that are open now.
    pub fn cut(&self) {
        let open = self.connections();
        self.faults.send_modify(|faults| faults.cut = open);
    }

    /// Closes every connection, and each that comes, until [`Self::admit`].
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| faults.cut = usize::MAX);
    }

    /// Lets connections pass again.
    pub fn admit(&self) {
        self.cut();
    }

    /// Has every reply come so much later.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    faults: watch::Sender<Faults>,
    connections: Arc<AtomicUsize>,
) {
    // They end with the proxy.
    let mut running = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let nth = connections.fetch_add(1, Ordering::SeqCst);
        running.spawn(connection(client, target, nth, faults.clone()));
    }
}

async fn connection(
    client: TcpStream,
    target: SocketAddr,
    nth: usize,
    faults: watch::Sender<Faults>,
) {
    let mut changes = faults.subscribe();
    let passed = async {
        // If the server is down, its client finds the connection closed.
        let Ok(server) = TcpStream::connect(target).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let wedged = |faults: Faults| nth < faults.wedged;
        let unheard = |faults: Faults| nth < faults.wedged.max(faults.mute);
        tokio::join!(
            pass(from_client, to_server, &faults, wedged, |_| Duration::ZERO),
            pass(from_server, to_client, &faults, unheard, |faults| faults
                .delay),
        );
    };
    tokio::select! {
        () = passed => {}
        _ = changes.wait_for(|faults| nth < faults.cut) => {}
    }
}

/// Passes on what comes, unless it is to be swallowed.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    faults: &watch::Sender<Faults>,
    swallowed: impl Fn(Faults) -> bool,
    delay: impl Fn(Faults) -> Duration,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let delay = delay(*faults.borrow());
        sleep(delay).await;
        let swallowed = swallowed(*faults.borrow());
        if read == 0 && swallowed {
            // The other side does not hear of it.
            return std::future::pending().await;
        }
        if read == 0 || !swallowed && to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}
