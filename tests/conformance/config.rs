//! Settings: flags, variables, and what is said of wrong ones.

use std::{ffi::OsString, process::Stdio};

use chassis::{Config, Invocation, LogFormat};
use harness::{Process, command, get, output, start, within};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Reads the echo server's command line with this environment.
fn parse(
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Invocation<echo::Settings>, clap::Error> {
    echo::APP.parse(flags, |variable| {
        let found = environment.iter().find(|(name, _)| *name == variable);
        found.map(|(_, value)| OsString::from(value))
    })
}

fn config(flags: &[&str], environment: &[(&str, &str)]) -> Config {
    match parse(flags, environment) {
        Ok(Invocation::Serve(config, _)) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_setting_has_its_default() {
    let config = config(&[], &[]);
    assert_eq!(config.listen_addr.to_string(), ":50052");
    assert_eq!(config.admin_listen().to_string(), ":50053");
    assert_eq!(
        (config.lame_duck.as_secs(), config.drain_timeout.as_secs()),
        (5, 25)
    );
    assert_eq!(
        (config.tls_cert, config.tls_key, config.tls_client_ca),
        (None, None, None)
    );
    assert!(config.reflection && config.served_by);
}

#[test]
fn a_variable_sets_what_its_flag_sets_and_the_flag_wins() {
    let environment = [
        ("LAME_DUCK", "1s"),
        ("LOG_FORMAT", "text"),
        ("DRAIN_TIMEOUT", "2s"),
    ];
    for flags in [["--lame-duck", "3s"].as_slice(), &["--lame-duck=3s"]] {
        let config = config(flags, &environment);
        assert_eq!(config.lame_duck.as_secs(), 3);
        assert_eq!(config.drain_timeout.as_secs(), 2);
        assert_eq!(config.log_format(), LogFormat::Text);
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    assert_eq!(
        config(&[], &[("LAME_DUCK", ""), ("TLS_CERT", "")])
            .lame_duck
            .as_secs(),
        5
    );
}

#[test]
fn a_time_of_more_than_a_year_or_of_nothing_is_refused() {
    parse(&[], &[("MAX_CONNECTION_AGE", "1year"), ("LAME_DUCK", "0s")]).expect("times");
    for (time, problem) in [("2years", "more than a year"), ("0s", "more than nothing")] {
        let error = parse(&[], &[("MAX_CONNECTION_AGE", time)]).expect_err(time);
        assert!(error.to_string().contains(problem), "{error}");
    }
}

/// The variables of all settings.
fn variables() -> Vec<String> {
    let Ok(Invocation::PrintConfig(lines)) = parse(&["--print-config"], &[]) else {
        panic!("not printed")
    };
    let names = lines.lines().filter_map(|line| line.split_once('='));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// What people write, and what they do not.
fn value() -> impl Strategy<Value = String> {
    const SEEDS: [&str; 19] = [
        "5s",
        "30",
        ":50051",
        "localhost:50051",
        "64MiB",
        "18446744073709551616EiB",
        "1h 30m",
        "366days",
        "18446744073709551615s",
        "0",
        "-1",
        "65536",
        "true",
        "[::1]:0",
        "127.0.0.1:99999",
        "info,h2=debug",
        "/dev/null",
        "http://[::1",
        "--listen",
    ];
    let seed = prop::sample::select(SEEDS.to_vec());
    prop_oneof![
        seed.clone().prop_map(str::to_owned),
        any::<String>(),
        (seed, any::<char>(), any::<prop::sample::Index>()).prop_map(|(seed, other, at)| {
            let at = at.index(seed.len() + 1);
            [&seed[..at], other.encode_utf8(&mut [0; 4]), &seed[at..]].concat()
        }),
    ]
}

proptest! {
    #![proptest_config(crate::properties())]

    #[test]
    fn any_value_is_taken_or_refused_by_the_name_of_its_variable(
        variable in prop::sample::select(variables()),
        value in value(),
    ) {
        match parse(&[], &[(&variable, &value)]) {
            Ok(Invocation::Serve(config, _)) => {
                let now = std::time::Instant::now();
                let limits = &config.limits;
                for period in [
                    config.lame_duck, config.drain_timeout, limits.handshake_timeout,
                    limits.stall_timeout, limits.unary_timeout, limits.stream_idle_timeout,
                    limits.max_connection_age_grace, limits.max_connection_idle,
                ] {
                    let _ = now + *period;
                }
                let _ = now + limits.max_connection_age.mul_f64(1.1);
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(error) => prop_assert!(error.to_string().contains(&variable), "{error}"),
        }
    }
}

#[test]
fn the_admin_port_follows_the_grpc_port() {
    for (listen, admin) in [
        ("127.0.0.1:7000", "127.0.0.1:7001"),
        ("[::]:7000", "[::]:7001"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:65535", "127.0.0.1:0"),
        (":7000", ":7001"),
        ("7000", ":7001"),
        ("localhost:7000", "localhost:7001"),
    ] {
        let config = config(&["--listen", listen], &[]);
        assert_eq!(config.admin_listen().to_string(), admin);
    }
}

#[test]
fn seconds_and_sizes_need_no_unit() {
    let given = [
        ("LAME_DUCK", "30"),
        ("UNARY_TIMEOUT", "2"),
        ("RESPONSE_BYTES", "1M"),
    ];
    let config = config(&[], &given);
    assert_eq!(config.lame_duck.as_secs(), 30);
    assert_eq!(config.limits.unary_timeout.as_secs(), 2);
    for (variable, value, problem) in [
        ("UNARY_TIMEOUT", "0", "more than nothing"),
        ("LAME_DUCK", "31622401", "more than a year"),
        ("RESPONSE_BYTES", "2MiB", "must be 0 B to 1.0 MiB"),
        ("RESPONSE_BYTES", "much", "such as 67108864, 64MiB or 64M"),
    ] {
        let error = parse(&[], &[(variable, value)]).expect_err(value);
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn print_config_shows_the_effective_settings_and_where_they_come_from() {
    let environment = [
        ("RESPONSE_BYTES", "7"),
        ("POD_IP", "10.0.0.1"),
        ("RUST_LOG", "warn"),
        ("LOG_FORMAT", "json"),
        ("LISTEN_ADDR", "127.0.0.1:1"),
        ("ECHO_PASSWORD", "xyzzy"),
    ];
    let flags = [
        "--print-config",
        "--listen",
        "127.0.0.1:7000",
        "--max-calls=8",
    ];
    let Ok(Invocation::PrintConfig(lines)) = parse(&flags, &environment) else {
        panic!()
    };
    for line in [
        "# Listening",
        "LISTEN_ADDR=127.0.0.1:7000 # flag",
        "ADMIN_LISTEN_ADDR=127.0.0.1:7001 # derived",
        "TLS_CERT= # not set",
        "LAME_DUCK=5s # default",
        "MAX_CALLS=8 # flag",
        "MAX_CALLS_PER_PEER=2 # derived",
        "LOG_FORMAT=json # environment",
        "RUST_LOG=warn # environment",
        "REFLECTION=true # default",
        "POD_IP=10.0.0.1 # environment",
        "START_FILE= # not set",
        "RESPONSE_BYTES=7 # environment",
        "ECHO_PASSWORD=… # environment",
    ] {
        assert!(
            lines.lines().any(|found| found == line),
            "{line} in\n{lines}"
        );
    }
    assert!(!lines.contains("xyzzy"), "{lines}");
}

#[test]
fn help_is_in_groups_names_variables_and_has_the_order_of_print_config() {
    let help = parse(&["--help"], &[]).expect_err("help").to_string();
    let headings = help
        .lines()
        .filter(|line| line.ends_with(':') && !line.starts_with(' '));
    let expected = [
        "Commands:",
        "Options:",
        "Listening:",
        "TLS:",
        "Authentication:",
        "Shutdown:",
        "Limits:",
        "Logging:",
        "Identity:",
        "Echo:",
    ];
    assert_eq!(headings.collect::<Vec<_>>(), expected);
    let options = help.split("Listening:").next().expect("options");
    assert!(options.contains("--print-config"), "{options}");
    // In one line, however wide the terminal.
    let help: Vec<_> = help.split_whitespace().collect();
    let help = help.join(" ");
    let named: Vec<_> = help
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split(']').next().expect("a variable").to_owned())
        .collect();
    assert!(named.len() > 30, "{named:?}");
    assert_eq!(named, variables());
    for variable in named {
        assert!(help.contains(&format!("<{variable}>")), "{variable}");
    }
}

#[tokio::test]
async fn a_wrong_value_stops_the_start_with_a_line_that_names_the_variable_and_code_2() {
    for (variable, value) in [
        ("LISTEN_ADDR", "nope"),
        ("ADMIN_LISTEN_ADDR", "localhost"),
        ("LISTEN_ADDR", "::1:50051"),
        ("LAME_DUCK", "5 parsecs"),
        ("DRAIN_TIMEOUT", "-1s"),
        ("REFLECTION", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "chassis=loud"),
        ("RUST_LOG", "warning"),
        ("RESPONSE_BYTES", "64 pounds"),
        ("MAX_CALLS", "0"),
        ("POD_IP", "10.0.0.1\n"),
    ] {
        let outcome = output(command("echo", &[]).env(variable, value)).await;
        assert_eq!(outcome.status.code(), Some(2), "{variable}={value}");
        let said = String::from_utf8(outcome.stderr).expect("text");
        assert!(
            said.contains(&format!("<{variable}>")) && said.contains(value.trim()),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let outcome = output(command("echo", &[]).env("TLS_CERT", "x")).await;
    assert_eq!(outcome.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&outcome.stderr).contains("<TLS_KEY>"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_busy_port_stops_the_start_with_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    for variable in ["LISTEN_ADDR", "ADMIN_LISTEN_ADDR"] {
        let mut command = command("echo", &[]);
        command
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env(variable, &addr);
        let outcome = output(&mut command).await;
        assert_eq!(outcome.status.code(), Some(1));
        let said = String::from_utf8(outcome.stderr).expect("text");
        assert!(
            said.starts_with(&format!("echo: {variable}={addr}: ")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_log_level_that_does_not_exist_is_refused_with_those_that_do() {
    for (given, hint) in [
        ("warning", "off, error, warn, info, debug and trace"),
        ("info,access", "TARGET=LEVEL, such as access=debug"),
    ] {
        let outcome = output(&mut command("echo", &["--log", given])).await;
        assert_eq!(outcome.status.code(), Some(2), "{given}");
        let said = String::from_utf8(outcome.stderr).expect("text");
        assert!(said.contains("<RUST_LOG>") && said.contains(hint), "{said}");
    }
}

/// A port of 127.0.0.1 that was free just now.
fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("bound").port()
}

#[tokio::test]
async fn a_port_alone_listens_on_every_ipv6_and_ipv4_address() {
    for listen in [":0", "0", "[::]:0"] {
        let server = start(echo::APP, &["--listen", listen]).await;
        assert!(server.addr.is_ipv6(), "{}", server.addr);
        for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let admin = format!("{host}:{}", server.admin.port());
            let answer = get(admin.parse().expect("an address"), "/healthz").await;
            assert_eq!(answer.0, 200, "{admin}");
            let grpc = format!("{host}:{}", server.addr.port());
            within(tokio::net::TcpStream::connect(&grpc))
                .await
                .expect(&grpc);
        }
    }
}

#[tokio::test]
async fn a_name_is_resolved_at_the_start() {
    let listen = format!("localhost:{}", free_port());
    let server = start(
        echo::APP,
        &["--listen", &listen, "--admin-listen", "localhost:0"],
    )
    .await;
    assert!(server.addr.ip().is_loopback(), "{}", server.addr);
    assert!(listen.ends_with(&format!(":{}", server.addr.port())));
    assert_eq!(get(server.admin, "/healthz").await.0, 200);

    let nowhere = ["--listen", "no-such-host.invalid:50051"];
    let outcome = output(&mut command("echo", &nowhere)).await;
    assert_eq!(outcome.status.code(), Some(1));
    let said = String::from_utf8(outcome.stderr).expect("text");
    let problem = "echo: LISTEN_ADDR=no-such-host.invalid:50051: ";
    assert!(said.starts_with(problem), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn peers_on_a_socket_for_ipv6_and_ipv4_are_logged_by_their_own_address() {
    let flags = ["--max-connections-per-peer", "1"];
    let mut server = Process::start_on(":0", "echo", &flags).await;
    assert!(server.addr.is_ipv6(), "{}", server.addr);
    for (host, logged) in [("127.0.0.1", "127.0.0.1:"), ("[::1]", "[::1]:")] {
        let addr = format!("{host}:{}", server.addr.port());
        let channel = harness::channel(addr.parse().expect("an address"));
        let hello = echo::pb::EchoRequest {
            message: "Ada".into(),
        };
        let mut client = echo::pb::echo_client::EchoClient::new(channel);
        client.unary_echo(hello).await.expect(&addr);
        let line = server.log("call").await;
        let peer = line["peer"].as_str().expect("text");
        assert!(peer.starts_with(logged), "{line}");
        if host == "127.0.0.1" {
            let _second = tokio::net::TcpStream::connect(&addr).await.expect("queued");
            let line = server.log("refused: a limit is reached").await;
            let peer = line["peer"].as_str().expect("text");
            assert!(peer.starts_with(logged), "{line}");
        }
    }
}

#[tokio::test]
async fn log_lines_can_be_text() {
    let mut command = command("echo", &["--log-format", "text", "--listen", "127.0.0.1:0"]);
    let mut server = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("a server that starts");
    let mut log = BufReader::new(server.stdout.take().expect("piped")).lines();
    let line = within(log.next_line())
        .await
        .expect("readable")
        .expect("a line");
    assert!(
        line.contains(" INFO ") && line.contains("listening"),
        "{line}"
    );
}
