//! The suite's chassis around a Greeter with work to do.

use std::{future::ready, process::ExitCode};

use chassis::{App, Services};
use proto::helloworld::greeter_server::GreeterServer;

mod busy;

const APP: App<greeter::Settings> = App {
    name: "busy-greeter",
    about: "A Greeter with work to do",
    listen_port: 0,
    build: |_, _| {
        let services = Services::described_by(proto::helloworld::FILE_DESCRIPTOR_SET);
        Box::pin(ready(Ok(
            services.add_service(GreeterServer::new(busy::Busy::new()))
        )))
    },
};

fn main() -> ExitCode {
    chassis::main(APP)
}
