//! File descriptors: each connection uses one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit, as Go's runtime does. The default is often 1024,
/// for programs that use `select`.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// How the descriptors are divided.
pub(crate) struct Shares {
    /// Maximum number of connections of the gRPC listener.
    pub(crate) grpc: usize,
    /// Maximum number of connections of the admin listener.
    pub(crate) admin: usize,
}

/// Reserves descriptors for files, stores and the admin listener, so that health checks and metrics still
/// work when callers use all others.
pub(crate) fn share(max_connections: usize) -> Shares {
    const ENOUGH: usize = 256;
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let kept = (limit / 4).min(ENOUGH);
    let grpc = max_connections.min(limit - kept);
    if grpc < max_connections {
        tracing::warn!(
            max_connections,
            limit,
            "the limit of open files allows for {grpc} connections only"
        );
    }
    Shares {
        grpc,
        admin: max_connections.min(kept / 2),
    }
}
