//! How a process ends: nobody loses a call, and nobody can hold it up.

use std::process::Stdio;

use echo::pb::{EchoRequest, echo_client::EchoClient};
use harness::{NOTHING, PREFACE, Process, bind, channel, command, send_signal, start, within};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::streaming::streaming;

#[tokio::test]
async fn sigterm_ends_an_idle_server_with_code_0_through_every_phase() {
    let mut server = Process::start("echo", &["--lame-duck", "10ms"]).await;
    assert_eq!(server.log("phase").await["phase"], "serving");
    server.signal(Signal::TERM);
    for phase in ["lame duck", "draining", "closed"] {
        assert_eq!(server.log("phase").await["phase"], phase);
    }
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_watch_an_idle_chat_and_a_mute_peer_cannot_hold_the_process() {
    let flags = ["--lame-duck", "10ms", "--drain-timeout", "2s"];
    let server = Process::start("echo", &flags).await;

    // Speaks HTTP/2, and then never again: it answers neither GOAWAY nor PING.
    let mut mute = TcpStream::connect(server.addr).await.expect("a connection");
    mute.write_all(PREFACE).await.expect("sent");
    mute.read_exact(&mut [0; 9])
        .await
        .expect("the server's SETTINGS");
    let watch = HealthClient::new(server.channel())
        .watch(HealthCheckRequest::default())
        .await;
    let mut watch = watch.expect("a stream").into_inner();
    let (open, requests) = mpsc::channel::<EchoRequest>(1);
    open.send(echo::request("chat")).await.expect("room");
    let chat = EchoClient::new(server.channel())
        .bidirectional_streaming_echo(ReceiverStream::new(requests))
        .await;
    let mut chat = chat.expect("a chat").into_inner();
    within(chat.message()).await.expect("a response");

    server.signal(Signal::TERM);
    // They are told, so that they can call elsewhere.
    let end = within(async {
        loop {
            if let Err(status) = watch.message().await {
                return status.code();
            }
        }
    });
    assert_eq!(end.await, Code::Unavailable);
    let end = within(chat.message()).await.expect_err("told");
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(server.exit().await.code(), Some(0));
    // It ends, in order or by a reset.
    let _ = within(mute.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_was_ever_said_does_not_delay_the_drain() {
    let server = start(echo::APP, &["--drain-timeout", "1h"]).await;
    let mut silent = TcpStream::connect(server.addr).await.expect("a connection");
    server.stopped().await;
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn a_client_stream_that_is_open_is_read_to_its_end_and_answered() {
    let mut server = start(echo::APP, &["--drain-timeout", "1h"]).await;
    let client = EchoClient::new(server.channel());
    let (requests, response) = streaming(&client).await;

    // Once the server no longer accepts connections, it drains those it has.
    let addr = server.addr;
    server.stop();
    within(async { while TcpStream::connect(addr).await.is_ok() {} }).await;

    let last = requests.send(echo::request("the last"));
    last.await.expect("still an open stream");
    drop(requests);
    let response = within(response).await.expect("no panic");
    let response = response.expect("a response").into_inner();
    assert_eq!(response.message, "the last");
    server.stopped().await;
}

#[tokio::test]
async fn a_lame_duck_still_takes_new_connections_and_calls() {
    let mut server = start(echo::APP, &["--lame-duck", "1h"]).await;
    let mut watch = HealthClient::new(server.channel())
        .watch(HealthCheckRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    within(watch.message()).await.expect("serving");
    server.stop();
    within(watch.message()).await.expect("not serving");
    let request = EchoRequest {
        message: "Ada".into(),
    };
    EchoClient::new(channel(server.addr))
        .unary_echo(request)
        .await
        .expect("a reply");
}

#[tokio::test]
async fn a_server_that_has_run_out_of_descriptors_recovers_and_shuts_down() {
    let flags = ["--lame-duck", "10ms", "--drain-timeout", "1s"];
    let mut server = Process::start_with_files(40, "echo", &flags).await;
    let mut peers = Vec::new();
    for _ in 0..60 {
        let mut peer = TcpStream::connect(server.addr).await.expect("queued");
        peer.write_all(PREFACE).await.expect("sent");
        peers.push(peer);
    }
    server.log("cannot accept a connection").await;

    // With some of them gone, those that waited are served, and new ones.
    peers.drain(..40);
    let request = EchoRequest {
        message: "Ada".into(),
    };
    let call = async { EchoClient::new(server.channel()).unary_echo(request).await };
    within(call).await.expect("a reply");

    for _ in 0..60 {
        peers.push(TcpStream::connect(server.addr).await.expect("queued"));
    }
    server.log("cannot accept a connection").await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn peers_that_wait_to_be_accepted_are_served_when_the_drain_begins() {
    // Bound and not yet running: every connection waits in the kernel's queue.
    let server = bind(echo::APP, &[], NOTHING).await.expect("bound");
    let mut peers = Vec::new();
    for _ in 0..20 {
        let addr = server.addr().expect("bound");
        let mut peer = TcpStream::connect(addr).await.expect("queued");
        peer.write_all(PREFACE).await.expect("sent");
        peers.push(peer);
    }
    // Told to stop before it accepts the first.
    let running = tokio::spawn(server.run(std::future::ready(())));
    for peer in &mut peers {
        // One that is dropped would not be greeted.
        let mut header = [0; 9];
        within(peer.read_exact(&mut header)).await.expect("a frame");
        assert_eq!(header[3], 4, "SETTINGS");
    }
    drop(peers);
    within(running).await.expect("no panic");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut server = Process::start("echo", &["--lame-duck", "1h"]).await;
    server.signal(Signal::TERM);
    server.log("phase").await; // serving
    server.log("phase").await; // lame duck
    server.signal(Signal::INT);
    server.log("second signal: exiting at once").await;
    assert_eq!(server.exit().await.code(), Some(1));
}

#[tokio::test]
async fn a_signal_during_a_start_that_never_ends_ends_the_process() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    for flag in ["--start-file", "--tokens-file"] {
        for signal in [Signal::TERM, Signal::INT] {
            let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
            let mut server = command("echo", &listen);
            let server = server.arg(flag).arg(&fifo).stdout(Stdio::null());
            let mut server = server.spawn().expect("a server");
            // Opens once the server has opened it to read.
            let mut options = tokio::fs::OpenOptions::new();
            let writer = options.write(true).open(&fifo);
            let writer = within(writer).await.expect("a reader");
            send_signal(&server, signal);
            let ended = within(server.wait()).await.expect("a process");
            assert_eq!(ended.code(), Some(0), "{flag}");
            drop(writer);
        }
    }
}
