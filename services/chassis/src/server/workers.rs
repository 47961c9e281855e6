//! A thread for each core, and each connection on one of them for life.
//!
//! Neither a call nor what it touches ever moves to another core, and a process that is held to one core
//! has no second thread to wake. Against tokio's runtime of many threads, in which idle ones steal work,
//! that saves a quarter of the processor time of a short call; in return a handler that computes for long
//! holds up the connections of its thread, where that runtime would move them.

use std::{io, thread};

use futures_util::future::join_all;
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};
use tokio_util::task::TaskTracker;

use crate::connection::tcp::{self, TcpStream};

/// Where connections are served: on the runtime of the caller, and on the threads of these workers.
pub(crate) struct Workers {
    /// The caller's first.
    workers: Vec<Worker>,
}

struct Worker {
    connections: TaskTracker,
    /// None for the caller's own.
    thread: Option<Thread>,
}

/// A runtime on a thread of its own, which ends when this is dropped, and with it all that runs there.
struct Thread {
    runtime: Handle,
    end: Option<oneshot::Sender<()>>,
    ended: Option<thread::JoinHandle<()>>,
}

impl Workers {
    /// The caller's runtime alone.
    pub(crate) fn none() -> Self {
        Self::beside(Vec::new())
    }

    /// One for each core that the process may use, the caller's among them. Of a container's cores that
    /// is what its quota says, rounded down, and at least one.
    pub(crate) fn one_per_core() -> io::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let threads = (1..cores).map(|_| Thread::start());
        Ok(Self::beside(threads.collect::<io::Result<_>>()?))
    }

    fn beside(threads: Vec<Thread>) -> Self {
        let threads = [None].into_iter().chain(threads.into_iter().map(Some));
        let worker = |thread| Worker {
            connections: TaskTracker::new(),
            thread,
        };
        Self {
            workers: threads.map(worker).collect(),
        }
    }

    /// Serves a connection where there are fewest.
    pub(crate) fn serve<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let fewest = (self.workers.iter()).min_by_key(|worker| worker.connections.len());
        let Some(Worker {
            connections,
            thread,
        }) = fewest
        else {
            return;
        };
        match thread {
            None => drop(connections.spawn(serve(stream))),
            Some(thread) => {
                // Its readiness is the affair of the runtime that it is served on.
                let moved = tcp::detach(stream);
                let serve = async move {
                    match moved.and_then(tcp::attach) {
                        Ok(stream) => serve(stream).await,
                        Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                    }
                };
                drop(connections.spawn_on(serve, &thread.runtime));
            }
        }
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        let open = self.workers.iter().map(|worker| worker.connections.len());
        open.sum()
    }

    /// Resolves when all connections have ended, once there will be no new one.
    pub(crate) async fn finished(&self) {
        join_all(self.workers.iter().map(|worker| {
            worker.connections.close();
            worker.connections.wait()
        }))
        .await;
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ends) = oneshot::channel();
        let ended = thread::Builder::new().name("worker".to_owned());
        let ended = ended.spawn(move || {
            // An error says that the sender is gone, which is what it is for.
            let _: Result<(), _> = runtime.block_on(ends);
        })?;
        Ok(Self {
            runtime: handle,
            end: Some(end),
            ended: Some(ended),
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(ended) = self.ended.take() {
            // A panic has been told already.
            let _: Result<(), _> = ended.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        net::Ipv4Addr,
        thread::{self, ThreadId},
    };

    use tokio::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    use super::{Thread, Workers};

    /// Has `many` connections served, and says on which threads.
    async fn serve(workers: &Workers, many: usize) -> Vec<ThreadId> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (says, mut heard) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        for _ in 0..many {
            let client = TcpStream::connect(addr).await.expect("queued");
            let (stream, _) = listener.accept().await.expect("accepted");
            drop(client);
            let says = says.clone();
            workers.serve(stream, move |stream| async move {
                // The client has left: what is read is the end, if this runtime can read it.
                stream.readable().await.expect("a socket");
                says.send(thread::current().id()).expect("heard");
                pending().await
            });
            threads.push(heard.recv().await.expect("said"));
        }
        threads
    }

    #[tokio::test]
    async fn connections_are_spread_and_stay_until_the_threads_end() {
        let workers = Workers::beside(vec![Thread::start().expect("a thread")]);
        let threads = serve(&workers, 6).await;
        let here = thread::current().id();
        let on_this = threads.iter().filter(|thread| **thread == here);
        assert_eq!(on_this.count(), 3);
        assert_eq!(workers.connections(), 6);
        drop(workers);
    }

    #[tokio::test]
    async fn without_threads_the_caller_serves_all() {
        let threads = serve(&Workers::none(), 3).await;
        assert_eq!(threads, [thread::current().id(); 3]);
    }
}
