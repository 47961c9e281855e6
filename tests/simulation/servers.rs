//! The servers: the chassis as it is, with an Echo that writes down what it is asked to do.

use std::{
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chassis::{App, Config, Dependency, Error, Invocation, Runtime, Server, Services};
use echo::pb::{
    EchoRequest, EchoResponse,
    echo_server::{Echo, EchoServer},
};
use tokio::{sync::Notify, time::sleep};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    plan::Plan,
    record::{Process, Shared, open},
};

pub(crate) const PORT: u16 = 9000;
pub(crate) const SERVICE: &str = "grpc.examples.echo.Echo";

pub(crate) fn name(server: usize) -> String {
    format!("server-{server}")
}

/// How a server is told things from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strings {
    /// To stop, as by SIGTERM.
    pub(crate) stop: Arc<Notify>,
    /// How long it is to be away after that.
    pub(crate) away: Arc<Mutex<Duration>>,
    /// What its process depends on.
    dependency: Arc<Mutex<Option<Dependency>>>,
    sick: Arc<Mutex<bool>>,
}

fn locked<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Strings {
    pub(crate) fn set_away(&self, away: Duration) {
        *locked(&self.away) = away;
    }

    pub(crate) fn set_sick(&self, sick: bool) {
        *locked(&self.sick) = sick;
        self.say_how_it_is();
    }

    fn say_how_it_is(&self) {
        let sick = *locked(&self.sick);
        if let Some(dependency) = &*locked(&self.dependency) {
            match sick {
                true => dependency.unavailable("sick"),
                false => dependency.up(),
            }
        }
    }
}

/// Runs process after process of a server, for ever.
pub(crate) async fn run(
    number: usize,
    config: Config,
    strings: Strings,
    record: Shared,
) -> turmoil::Result {
    loop {
        let runtime = Runtime::new("simulated");
        *locked(&strings.dependency) = Some(runtime.dependency("store").required_by(SERVICE));
        strings.say_how_it_is();
        let greeter = EchoServer::new(Counting {
            number,
            record: record.clone(),
        });
        let services = Services::described_by(echo::pb::FILE_DESCRIPTOR_SET).add_service(greeter);
        let server = Server::bind("simulated", &config, services, runtime).await;
        let server = server.map_err(|error| error.to_string())?;
        let up = turmoil::sim_elapsed().unwrap_or_default();
        let process = Process {
            up,
            ..Process::default()
        };
        open(&record)
            .processes
            .entry(number)
            .or_default()
            .push(process);
        let told = async {
            strings.stop.notified().await;
            if let Some(process) = open(&record).latest(number) {
                process.told = turmoil::sim_elapsed();
            }
        };
        server.run(told).await;
        if let Some(process) = open(&record).latest(number) {
            process.stopped = turmoil::sim_elapsed();
        }
        let away = *locked(&strings.away);
        sleep(away).await;
    }
}

/// The settings of all servers.
pub(crate) fn config(plan: &Plan) -> Result<Config, Error> {
    #[derive(Debug, clap::Args)]
    struct NoSettings {}
    const APP: App<NoSettings> = App {
        name: "simulated",
        about: "",
        listen_port: 9000,
        build: |NoSettings {}, _| Box::pin(ready(Ok(Services::default()))),
    };
    let flags = [
        ("--lame-duck", plan.lame_duck),
        ("--drain-timeout", plan.drain),
        ("--max-connection-age", plan.age),
        ("--max-connection-age-grace", plan.grace),
    ];
    let flags = flags.map(|(flag, time)| format!("{flag}={}ms", time.as_millis()));
    // turmoil's hosts have IPv4 addresses, and take no socket for both.
    let listen = "--listen=0.0.0.0:9000".to_owned();
    match APP.parse(flags.into_iter().chain([listen]), |_| None)? {
        Invocation::Serve(config, _) => Ok(*config),
        other => Err(format!("{other:?}").into()),
    }
}

struct Counting {
    number: usize,
    record: Shared,
}

type Replies = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

impl Counting {
    /// Reads who is to be greeted: the number of the call, and how long its handler, or each pause of its stream, is
    /// to take.
    fn begin(&self, request: &EchoRequest) -> Result<(u64, Duration), Status> {
        let wrong = || Status::invalid_argument("expected NUMBER MILLISECONDS");
        let (number, milliseconds) = request.message.split_once(' ').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        let milliseconds = milliseconds.parse().map_err(|_| wrong())?;
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let mut record = open(&self.record);
        record
            .executions
            .entry(number)
            .or_default()
            .push((self.number, now));
        Ok((number, Duration::from_millis(milliseconds)))
    }
}

fn reply(number: u64) -> EchoResponse {
    EchoResponse {
        message: format!("Hello {number}"),
    }
}

#[tonic::async_trait]
impl Echo for Counting {
    type ServerStreamingEchoStream = Replies;
    type BidirectionalStreamingEchoStream = Replies;

    async fn unary_echo(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<EchoResponse>, Status> {
        let (number, takes) = self.begin(request.get_ref())?;
        sleep(takes).await;
        Ok(Response::new(reply(number)))
    }

    async fn server_streaming_echo(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<Replies>, Status> {
        let (number, pause) = self.begin(request.get_ref())?;
        Ok(Response::new(Box::pin(async_stream::stream! {
            for _ in 0..5 {
                sleep(pause).await;
                yield Ok(reply(number));
            }
        })))
    }

    async fn client_streaming_echo(
        &self,
        _: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        Err(Status::unimplemented("no caller makes it"))
    }

    async fn bidirectional_streaming_echo(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(request) = requests.message().await? {
                yield EchoResponse { message: request.message };
            }
        })))
    }
}
