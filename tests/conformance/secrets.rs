//! What is in a file with a secret is shown nowhere, in whatever way the file is damaged.

use std::{fs, process::Output};

use channel::{Channel, Settings, Target, Trust};
use harness::{Process, bind, command, get, output, within};
use proptest::prelude::*;
use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use tokio::runtime::Builder;

use harness::pki::Pki;

use crate::properties;

/// Ways in which a file is damaged by those who copy it.
#[derive(Debug, Clone)]
enum Damage {
    LineEnds(&'static str),
    Cut(usize),
    Doubled,
    /// This letter in place of one that was there.
    Letter(usize, char),
    Before(&'static str),
    Renamed(&'static str),
}

impl Damage {
    fn done(&self, pem: &str) -> String {
        match self {
            Self::LineEnds(end) => pem.replace('\n', end),
            Self::Cut(at) => {
                let kept = at % (pem.chars().count() + 1);
                pem.chars().take(kept).collect()
            }
            Self::Doubled => format!("{pem}{pem}"),
            Self::Letter(at, by) => {
                let at = at % (pem.chars().count() + 1);
                let letters = pem.chars().enumerate();
                let letters = letters.map(|(place, letter)| if place == at { *by } else { letter });
                letters.collect()
            }
            Self::Before(text) => format!("{text}{pem}"),
            Self::Renamed(kind) => pem.replace("PRIVATE KEY", kind),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        prop::sample::select(vec![" ", "", "\\n", "\r", "\r\n", "\n\n"]).prop_map(Damage::LineEnds),
        any::<usize>().prop_map(Damage::Cut),
        Just(Damage::Doubled),
        (
            any::<usize>(),
            prop::sample::select(vec!['%', '-', ' ', '\n', 'é', '='])
        )
            .prop_map(|(at, by)| Damage::Letter(at, by)),
        prop::sample::select(vec!["\u{feff}", " ", "-----BEGIN ", "key: "])
            .prop_map(Damage::Before),
        prop::sample::select(vec!["ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "KEY"])
            .prop_map(Damage::Renamed),
    ]
}

/// Asserts that nothing of the key is in what was said.
fn assert_secret(said: &str, pem: &str) {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    let base64: String = lines.collect();
    let spelt = |bytes: &[u8], radix: fn(u8) -> String| {
        let bytes: Vec<_> = bytes.iter().map(|byte| radix(*byte)).collect();
        bytes.join(", ")
    };
    for run in base64.as_bytes().windows(8) {
        let text = String::from_utf8_lossy(run);
        assert!(!said.contains(&*text), "{said}");
        assert!(
            !said.contains(&spelt(run, |byte| byte.to_string())),
            "{said}"
        );
        assert!(
            !said.contains(&spelt(run, |byte| format!("{byte:x}"))),
            "{said}"
        );
    }
}

/// What a client's channel says of this key.
fn of_a_channel(pki: &Pki) -> String {
    let settings = Settings {
        trust: Trust::Authorities(pki.path("ca.pem").into()),
        identity: Some((pki.path("client.pem").into(), pki.path("bad.key").into())),
        ..Settings::default()
    };
    let target = Target::parse("localhost:1", true).expect("an address");
    Channel::new(target, settings).err().unwrap_or_default()
}

fn said(outcome: &Output) -> String {
    let [out, err] = [&outcome.stdout, &outcome.stderr].map(|said| String::from_utf8_lossy(said));
    format!("{out}{err}")
}

proptest! {
    #![proptest_config(properties())]

    #[test]
    fn no_damage_to_a_key_file_shows_what_was_in_it(
        damages in prop::collection::vec(damage(), 1..4),
        chosen in prop::sample::select(vec!["TLS_KEY", "TLS_CERT", "TLS_CLIENT_CA", "TOKENS_FILE", "ALLOW_FILE"]),
    ) {
        let pki = Pki::new();
        pki.issue("client", ClientAuth);
        let key = pki.pem("server.key");
        pki.write("bad.key", &damages.iter().fold(key.clone(), |pem, damage| damage.done(&pem)));
        let mut environment = vec![(chosen, pki.path("bad.key"))];
        environment.extend(pki.mtls());
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(bind(echo::APP, &[], &environment));
        let problem = server.err().map(|error| error.to_string()).unwrap_or_default();
        prop_assert!(problem.is_empty() || problem.contains(chosen), "{problem}");
        assert_secret(&problem, &key);
        assert_secret(&of_a_channel(&pki), &key);
    }
}

#[tokio::test]
async fn a_damaged_key_is_shown_by_no_program_and_its_damage_is_named() {
    let pki = Pki::new();
    pki.issue("client", ClientAuth);
    let key = pki.pem("server.key");
    let [ca, cert, bad] = ["ca.pem", "client.pem", "bad.key"].map(|file| pki.path(file));
    for (damage, named) in [
        (Damage::LineEnds(" "), "BEGIN line without its END line"),
        (Damage::Cut(100), "BEGIN line without its END line"),
        (Damage::Letter(60, '%'), "base64 is damaged"),
        (
            Damage::Renamed("ENCRYPTED PRIVATE KEY"),
            "encrypted private key: decrypt it first",
        ),
        (Damage::Renamed("KEY"), "no private key in this file"),
        (
            Damage::Before("-----BEGIN "),
            "BEGIN line without its END line",
        ),
    ] {
        pki.write("bad.key", &damage.done(&key));
        let server = pki.path("server.pem");
        let flags = [
            "--addr",
            "https://localhost:1",
            "--cacert",
            &ca,
            "--cert",
            &cert,
            "--key",
            &bad,
        ];
        for (program, arguments) in [
            (
                "echo",
                vec![
                    "--tls-cert",
                    &server,
                    "--tls-key",
                    &bad,
                    "--listen",
                    "127.0.0.1:0",
                ],
            ),
            ("echo", [&["healthcheck"], &flags[..]].concat()),
            ("greeter-client", [&flags[..], &["hello"]].concat()),
        ] {
            let outcome = output(&mut command(program, &arguments)).await;
            assert!(!outcome.status.success(), "{outcome:?}");
            let said = said(&outcome);
            assert_secret(&said, &key);
            assert!(
                said.contains(&bad) && said.contains(named),
                "{program}, {damage:?}: {said}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_that_is_damaged_later_is_shown_neither_in_the_log_nor_by_readyz() {
    let pki = Pki::new();
    let key = pki.pem("server.key");
    let [cert, path] = ["server.pem", "server.key"].map(|file| pki.path(file));
    let flags = ["--tls-cert", &cert, "--tls-key", &path];
    let mut server = Process::start("echo", &flags).await;
    for (damage, named) in [
        (Damage::LineEnds(" "), "BEGIN line without its END line"),
        (Damage::Letter(60, '%'), "base64 is damaged"),
    ] {
        fs::write(&path, damage.done(&key)).expect("written");
        let line = server
            .log("reload of certificates failed; keeping the previous")
            .await;
        assert_secret(&line.to_string(), &key);
        let problem = line["problem"].as_str().expect("a problem");
        assert!(
            problem.starts_with("TLS_KEY=") && problem.contains(named),
            "{line}"
        );
        let (_, page) = within(get(server.admin, "/readyz")).await;
        assert_secret(&page, &key);
        assert!(page.contains(problem), "{page}");
    }
}

#[tokio::test]
async fn tokens_that_are_given_for_rules_are_not_shown() {
    let pki = Pki::new();
    pki.write("tokens", "s3cret-token-of-somebody and-another\n");
    for setting in ["ALLOW_FILE", "TLS_KEY", "TLS_CERT", "TLS_CLIENT_CA"] {
        let mut environment = vec![(setting, pki.path("tokens"))];
        environment.extend(pki.mtls());
        let error = bind(echo::APP, &[], &environment).await.err();
        let error = error.expect("refused").to_string();
        assert!(error.contains(setting), "{error}");
        assert!(
            !error.contains("s3cret") && !error.contains("another"),
            "{error}"
        );
    }
}
