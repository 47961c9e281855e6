//! One thread for each core; a connection stays on its thread.
//!
//! A call and its data never move to another core, and a process that is limited to one core has no second
//! thread to wake. Compared with tokio's work-stealing multi-thread runtime, this saves a quarter of the CPU
//! time of a short call. In return, a handler that computes for long delays the other connections of its
//! thread, which that runtime would move.

use std::{io, thread};

use futures_util::future::join_all;
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};
use tokio_util::task::TaskTracker;

use crate::connection::tcp::{self, TcpStream};

/// The threads that serve connections: the caller's runtime, and those of the workers.
pub(crate) struct Workers {
    /// The caller's is the first.
    workers: Vec<Worker>,
}

struct Worker {
    connections: TaskTracker,
    /// None for the caller's own.
    thread: Option<Thread>,
}

/// A runtime on its own thread. Dropping this ends the thread and all tasks on it.
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

    /// One for each core that the process may use, including the caller's. In a container, that is its CPU
    /// quota, rounded down, and at least one.
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

    /// Serves a connection on the worker with the fewest connections.
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
                // The socket is registered with the runtime that serves it.
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

    /// The number of open connections.
    pub(crate) fn connections(&self) -> usize {
        let open = self.workers.iter().map(|worker| worker.connections.len());
        open.sum()
    }

    /// Resolves when all connections have ended. Call it only when no new one can be added.
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
            // An error means that the sender was dropped, which is the signal to end.
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
            // A panic has already been logged.
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

    /// Serves `many` connections, and returns their threads.
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
                // The client has closed: this runtime reads the end of the stream, if it can read at all.
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
