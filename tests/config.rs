//! Settings: flags, variables, and what is said of wrong ones.

use std::{ffi::OsString, process::Stdio};

use chassis::{Config, Invocation, LogFormat};
use harness::{command, output, within};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Reads RouteGuide's command line with this environment.
fn parse(
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Invocation<route_guide::Settings>, clap::Error> {
    route_guide::APP.parse(flags, |variable| {
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
    assert_eq!(config.listen_addr.to_string(), "0.0.0.0:50051");
    assert_eq!(config.admin_listen().to_string(), "0.0.0.0:50052");
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
        assert_eq!(config.log_format, LogFormat::Text);
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
    const SEEDS: [&str; 14] = [
        "5s",
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
    ] {
        let config = config(&["--listen", listen], &[]);
        assert_eq!(config.admin_listen(), admin.parse().expect("an address"));
    }
}

#[test]
fn print_config_shows_the_effective_settings() {
    let environment = [
        ("NOTE_BYTES", "7"),
        ("POD_IP", "10.0.0.1"),
        ("RUST_LOG", "warn"),
        ("LOG_FORMAT", "json"),
    ];
    let flags = ["--print-config", "--listen", "127.0.0.1:7000"];
    let Ok(Invocation::PrintConfig(lines)) = parse(&flags, &environment) else {
        panic!()
    };
    for line in [
        "LISTEN_ADDR=127.0.0.1:7000",
        "ADMIN_LISTEN_ADDR=127.0.0.1:7001",
        "TLS_CERT=",
        "LAME_DUCK=5s",
        "DRAIN_TIMEOUT=25s",
        "LOG_FORMAT=json",
        "RUST_LOG=warn",
        "REFLECTION=true",
        "POD_IP=10.0.0.1",
        "FEATURES_FILE=",
        "NOTE_BYTES=7",
        "NOTES_PER_POINT=100",
    ] {
        assert!(
            lines.lines().any(|found| found == line),
            "{line} in\n{lines}"
        );
    }
}

#[tokio::test]
async fn a_wrong_value_stops_the_start_with_a_line_that_names_the_variable_and_code_2() {
    for (variable, value) in [
        ("LISTEN_ADDR", "nope"),
        ("ADMIN_LISTEN_ADDR", "localhost"),
        ("LAME_DUCK", "5"),
        ("DRAIN_TIMEOUT", "-1s"),
        ("REFLECTION", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "chassis=loud"),
        ("NOTES_PER_POINT", "0"),
        ("POD_IP", "10.0.0.1\n"),
    ] {
        let outcome = output(command("route-guide", &[]).env(variable, value)).await;
        assert_eq!(outcome.status.code(), Some(2), "{variable}={value}");
        let said = String::from_utf8(outcome.stderr).expect("text");
        assert!(
            said.contains(&format!("<{variable}>")) && said.contains(value.trim()),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let outcome = output(command("greeter", &[]).env("TLS_CERT", "x")).await;
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
        let mut command = command("greeter", &[]);
        command
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env(variable, &addr);
        let outcome = output(&mut command).await;
        assert_eq!(outcome.status.code(), Some(1));
        let said = String::from_utf8(outcome.stderr).expect("text");
        assert!(
            said.starts_with(&format!("greeter: {variable}={addr}: ")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn log_lines_can_be_text() {
    let mut command = command(
        "greeter",
        &["--log-format", "text", "--listen", "127.0.0.1:0"],
    );
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
