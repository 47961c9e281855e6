//! Calls `helloworld.Greeter` from the command line.

use clap::{Parser, Subcommand};
use cli::{Channel, Client, Connection, Failure, Format, Printer, chat, input, printable};
use proto::helloworld::{
    HelloReply, HelloRequest, greeter_client::GreeterClient, greeter_server::SERVICE_NAME,
};
use tokio_stream::StreamExt as _;

const EXAMPLES: &str = "\
Examples:
  greeter-client hello Ada
  greeter-client stream Ada -o json
  greeter-client chat Ada Grace
  greeter-client chat                  # a name on each line of standard input
  greeter-client hello --addr https://greeter.example.com --max-time 2
  greeter-client hello --addr localhost:9000 --plaintext -H 'x-tenant: blue'

Exits 0 on success, 64 plus the gRPC code when a call fails, 2 on a wrong command line.";

/// Calls helloworld.Greeter
#[derive(Debug, Parser)]
#[command(name = "greeter-client", version, after_help = EXAMPLES)]
pub struct CommandLine {
    /// Target: http://HOST:PORT, https://HOST:PORT, or HOST:PORT; several with commas, or
    /// dns:///HOST:PORT for all addresses of a name
    #[arg(long, global = true, default_value = "http://localhost:9000")]
    addr: String,

    #[command(flatten)]
    connection: Connection,

    /// How to print replies
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Format,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// SayHello: one name, one reply
    Hello {
        #[arg(default_value = "world")]
        name: String,
    },
    /// SayHelloStreamReply: one name, a stream of replies
    Stream {
        #[arg(default_value = "world")]
        name: String,
    },
    /// SayHelloBidiStream: a stream of names, a reply to each
    Chat {
        /// The names; without one, those on standard input, line by line
        names: Vec<String>,
    },
}

/// All methods: a greeting has no side effects.
const IDEMPOTENT: &[&str] = &[
    "/helloworld.Greeter/SayHello",
    "/helloworld.Greeter/SayHelloStreamReply",
    "/helloworld.Greeter/SayHelloBidiStream",
];

impl Client for CommandLine {
    fn format(&self) -> Format {
        self.output
    }

    async fn run(self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let channel = self
            .connection
            .channel(&self.addr, SERVICE_NAME, IDEMPOTENT)?;
        call(GreeterClient::new(channel), self.command, printer).await
    }
}

async fn call(
    mut client: GreeterClient<Channel>,
    command: Command,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let request = |name| HelloRequest { name };
    let replies = match command {
        Command::Hello { name } => {
            let response = client.say_hello(request(name)).await?;
            printer.served_by(response.metadata())?;
            return print(printer, &response.into_inner());
        }
        Command::Stream { name } => client.say_hello_stream_reply(request(name)).await?,
        Command::Chat { names } => {
            let names = input(names).map(request);
            let open = async |names| client.say_hello_bidi_stream(names).await;
            return chat(printer, names, open, |reply| {
                Some(printable(&reply.message))
            })
            .await;
        }
    };
    printer.served_by(replies.metadata())?;
    let mut replies = replies.into_inner();
    while let Some(reply) = replies.message().await? {
        print(printer, &reply)?;
    }
    Ok(())
}

fn print(printer: &mut Printer<'_>, reply: &HelloReply) -> Result<(), Failure> {
    Ok(printer.message(reply, &printable(&reply.message))?)
}
