//! The suite's chassis around a Greeter with work to do.

use std::process::ExitCode;

use chassis::{App, Services};
use proto::helloworld::greeter_server::GreeterServer;

mod busy;

const APP: App<greeter::Settings> = App {
    name: "busy-greeter",
    about: "A Greeter with work to do",
    listen: "127.0.0.1:0",
    services: |_| {
        let services = Services::described_by(proto::FILE_DESCRIPTOR_SET);
        let greeter = GreeterServer::new(busy::Busy::new());
        Ok(chassis::serve!(services, greeter, 1024))
    },
};

fn main() -> ExitCode {
    chassis::main(APP)
}
