//! The cases about many calls.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::{Client, Outcome, connect, messages::large_unary};
use crate::CommandLine;

pub(super) async fn concurrent_large_unary(client: Client, concurrency: usize) -> Outcome {
    let calls = (0..concurrency).map(|_| large_unary(client.clone()));
    try_join_all(calls).await.map(drop)
}

pub(super) async fn rpc_soak(client: Client, command_line: &CommandLine) -> Outcome {
    for _ in 0..command_line.iterations {
        timed(large_unary(client.clone()), command_line.longest_call).await?;
    }
    Ok(())
}

pub(super) async fn channel_soak(command_line: &CommandLine) -> Outcome {
    for _ in 0..command_line.iterations {
        let client = connect(command_line)?;
        timed(large_unary(client), command_line.longest_call).await?;
    }
    Ok(())
}

async fn timed(call: impl Future<Output = Outcome>, longest: Duration) -> Outcome {
    let begun = Instant::now();
    call.await?;
    let took = begun.elapsed();
    if took > longest {
        return Err(format!("a call took {took:?}, and may take {longest:?}").into());
    }
    Ok(())
}
