//! `cargo demo`: the whole suite in one process, over real sockets.

use std::{io, net::SocketAddr};

use channel::{Channel, Settings, Target};
use chassis::{
    App, Invocation,
    health::v1::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
};
use clap::Parser as _;
use cli::{Client as _, Format, Printer};
use tokio::{signal::ctrl_c, sync::oneshot, task::JoinHandle};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Starts both servers, calls every method, prints the transcript
#[derive(clap::Parser)]
#[command(name = "cargo demo --")]
struct CommandLine {
    /// Keep both servers up on ports 50051 and 9000 until Ctrl-C instead
    #[arg(long)]
    serve: bool,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let serve = CommandLine::parse().serve;
    let route_guide = start(route_guide::APP, serve).await?;
    let greeter = start(greeter::APP, serve).await?;
    for server in [&route_guide, &greeter] {
        healthy(&server.url()).await?;
    }

    if serve {
        announce(&mut anstream::stdout())?;
        if let Invocation::Serve(config, _) = greeter::APP.parse([""; 0], |_| None)? {
            let _logging = chassis::start_logging(&config);
            ctrl_c().await?;
        }
    } else {
        call_everything(&route_guide.url(), &greeter.url()).await?;
    }

    tokio::try_join!(route_guide.stopped(), greeter.stopped())?;
    Ok(())
}

/// A server of this process.
struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Shuts it down, as SIGTERM does.
    async fn stopped(self) -> Outcome<()> {
        drop(self.stop);
        Ok(self.task.await?)
    }
}

/// Starts a server on 127.0.0.1: on its own port for others to call, or on a free one.
async fn start<S: clap::Args + Send + 'static>(app: App<S>, own_port: bool) -> Outcome<Running> {
    let listen = format!("127.0.0.1:{}", if own_port { app.listen_port } else { 0 });
    let flags = ["--listen", &listen, "--drain-timeout=1s", "--lame-duck=0s"];
    let Invocation::Serve(config, settings) = app.parse(flags, |_| None)? else {
        return Err("not a server".into());
    };
    let server = app.bind(&config, settings).await?;
    let addr = server.addr()?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async move {
        // Dropping the sender is as good as sending.
        let _ = stopped.await;
    }));
    Ok(Running { addr, stop, task })
}

/// Waits until the server says that it serves.
async fn healthy(url: &str) -> Outcome<()> {
    let channel = Channel::new(Target::parse(url, false)?, Settings::default())?;
    let mut health = HealthClient::new(channel);
    let mut statuses = health
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    while let Some(status) = statuses.message().await? {
        if status.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    Err("a server never serves".into())
}

/// Runs both clients as their command lines would.
async fn call_everything(route_guide: &str, greeter: &str) -> Outcome<()> {
    let (mut data, mut rest) = (anstream::stdout(), anstream::stdout());
    let mut printer = Printer::new(Format::Text, &mut data, &mut rest);
    let addr = format!("--addr={route_guide}");
    let tour = ["route-guide-client", &addr, "tour"];
    route_guide_client::CommandLine::try_parse_from(tour)?
        .run(&mut printer)
        .await?;

    let (mut data, mut rest) = (anstream::stdout(), anstream::stdout());
    let mut printer = Printer::new(Format::Text, &mut data, &mut rest);
    let addr = format!("--addr={greeter}");
    for (method, arguments) in [
        ("SayHello", ["hello", "world"].as_slice()),
        ("SayHelloStreamReply", &["stream", "world"]),
        ("SayHelloBidiStream", &["chat", "Ada", "Grace"]),
    ] {
        printer.heading(method)?;
        let call = ["greeter-client", &addr]
            .into_iter()
            .chain(arguments.iter().copied());
        greeter_client::CommandLine::try_parse_from(call)?
            .run(&mut printer)
            .await?;
    }
    Ok(())
}

fn announce(out: &mut impl io::Write) -> io::Result<()> {
    writeln!(
        out,
        r#"RouteGuide is on 127.0.0.1:50051 and Greeter on 127.0.0.1:9000. Try, in another terminal:

  grpcurl -plaintext localhost:50051 list
  grpcurl -plaintext -d '{{"latitude":409146138,"longitude":-746188906}}' localhost:50051 routeguide.RouteGuide/GetFeature
  grpcurl -plaintext -d '{{"name":"world"}}' localhost:9000 helloworld.Greeter/SayHelloStreamReply

Ctrl-C ends both."#
    )
}
