use std::{env, fs, path::Path, process, sync::LazyLock};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tonic::Code;

use super::config;
use crate::{call::auth::Auth, settings::config::Config, wire::certificate::CertificateName};

/// Files of tokens and rules are read or refused as the documents say, at first and when they change. Nothing of what
/// is in a file is in an error. A change that is refused changes nothing. A call may go on if it shows a token that is
/// in the one file and a name whose rules in the other cover it, and not otherwise.
///
/// Input, separated by 0xff: tokens, rules, what each of them changes to, the path of a call, its `authorization`,
/// the name in its certificate, behind `uri:` or `dns:`.
pub fn auth(data: &[u8]) {
    // Of this process; nothing else in it reads them.
    static FILES: LazyLock<Config> = LazyLock::new(|| {
        let file = |name: &str| env::temp_dir().join(format!("fuzzed-{}-{name}", process::id()));
        Config {
            tokens_file: Some(file("tokens")),
            allow_file: Some(file("rules")),
            ..config(&[])
        }
    });
    let [tokens, rules] =
        [&FILES.tokens_file, &FILES.allow_file].map(|file| file.as_deref().expect("set"));
    let mut parts = data.split(|byte| *byte == 0xff);
    let mut part = || parts.next().unwrap_or_default();
    let (first, then) = ([part(), part()], [part(), part()]);
    let call = Call::new(part(), part(), part());
    fs::write(tokens, first[0]).expect("a file");
    fs::write(rules, first[1]).expect("a file");
    let read = Auth::read(&FILES).map_err(|error| error.to_string());
    let expected =
        read_tokens(first[0], tokens).and_then(|tokens| Ok((tokens, read_rules(first[1], rules)?)));
    if let (Ok(auth), Ok(mut expected)) = (&read, expected.clone()) {
        call.check(auth, &expected.0, &expected.1);
        fs::write(tokens, then[0]).expect("a file");
        fs::write(rules, then[1]).expect("a file");
        let looked: Vec<_> = auth
            .files()
            .map(|file| (file.reload_if_changed(), file.problem()))
            .collect();
        let new = (read_tokens(then[0], tokens), read_rules(then[1], rules));
        let outcome = |at: usize, new: Option<&String>| {
            let changed = then[at] != first[at];
            (
                changed.then(|| new.map_or(Ok(()), |why| Err(why.clone()))),
                new.cloned(),
            )
        };
        assert_eq!(
            looked,
            [
                outcome(0, new.0.as_ref().err()),
                outcome(1, new.1.as_ref().err())
            ]
        );
        expected = (new.0.unwrap_or(expected.0), new.1.unwrap_or(expected.1));
        call.check(auth, &expected.0, &expected.1);
    }
    for file in [tokens, rules] {
        fs::remove_file(file).expect("a file");
    }
    assert_eq!(read.err(), expected.err());
}

type Tokens<'a> = Vec<&'a str>;
/// A name, and a method that it may call.
type Rules<'a> = Vec<(CertificateName, &'a str)>;

/// The lines of a file that say something, by number.
fn lines(file: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, &'static str> {
    let text = str::from_utf8(file).map_err(|_| "not UTF-8")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.split('\n').map(str::trim));
    Ok(lines.filter(|(_, line)| !matches!(line.chars().next(), None | Some('#'))))
}

fn read_tokens<'a>(file: &'a [u8], path: &Path) -> Result<Tokens<'a>, String> {
    let tokens = lines(file).map(|lines| lines.map(|(_, token)| token).collect::<Vec<_>>());
    let tokens = tokens.and_then(|tokens| match tokens[..] {
        [] => Err("no token in this file"),
        _ => Ok(tokens),
    });
    tokens.map_err(|why| format!("TOKENS_FILE={}: {why}", path.display()))
}

fn read_rules<'a>(file: &'a [u8], path: &Path) -> Result<Rules<'a>, String> {
    let problem = |why: String| format!("ALLOW_FILE={}: {why}", path.display());
    let mut rules = Vec::new();
    for (number, line) in lines(file).map_err(|why| problem(why.to_owned()))? {
        let mut words = (1..).zip(line.split_whitespace());
        let (_, name) = words.next().unwrap_or_default();
        let before = rules.len();
        for (word, method) in words {
            if !is_method(method) {
                return Err(problem(format!(
                    "line {number}: word {word} is not *, /package.Service/* or /package.Service/Method"
                )));
            }
            let name = match name.contains("://") {
                true => CertificateName::Uri(name.to_owned()),
                false => CertificateName::Dns(name.to_owned()),
            };
            rules.push((name, method));
        }
        if rules.len() == before {
            return Err(problem(format!(
                "line {number}: a name that is allowed nothing"
            )));
        }
    }
    Ok(rules)
}

fn is_method(word: &str) -> bool {
    let parts = word.strip_prefix('/').and_then(|path| path.split_once('/'));
    word == "*"
        || parts.is_some_and(|(service, method)| {
            let plain = !method.is_empty() && !method.contains(['*', '/']);
            !service.is_empty() && (plain || method == "*")
        })
}

/// What a caller shows.
struct Call {
    path: String,
    authorization: Option<HeaderValue>,
    names: Vec<CertificateName>,
}

impl Call {
    fn new(path: &[u8], authorization: &[u8], name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name);
        let uri = name
            .strip_prefix("uri:")
            .map(|name| CertificateName::Uri(name.to_owned()));
        let host = name
            .strip_prefix("dns:")
            .map(|name| CertificateName::Dns(name.to_owned()));
        Self {
            path: String::from_utf8_lossy(path).into_owned(),
            authorization: HeaderValue::from_bytes(authorization).ok(),
            names: uri.into_iter().chain(host).collect(),
        }
    }

    fn check(&self, auth: &Auth, tokens: &[&str], rules: &[(CertificateName, &str)]) {
        let authorization = self.authorization.clone();
        let mut headers: HeaderMap = authorization
            .into_iter()
            .map(|value| (AUTHORIZATION, value))
            .collect();
        let checked = auth.check(&self.path, &mut headers, &self.names);
        let shown = self
            .authorization
            .as_ref()
            .map_or(b"".as_slice(), HeaderValue::as_bytes);
        let is_known = shown.split_at_checked(7).is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(b"bearer ")
                && tokens.iter().any(|known| known.as_bytes() == token)
        });
        let is_covered = rules.iter().any(|(name, method)| {
            let covers = match method.split_once('*') {
                Some((beginning, _)) if method.ends_with('*') => self.path.starts_with(beginning),
                _ => self.path == *method,
            };
            self.names.contains(name) && covers
        });
        let expected = match (is_known, is_covered) {
            (false, _) => Code::Unauthenticated,
            (_, false) => Code::PermissionDenied,
            _ => Code::Ok,
        };
        assert_eq!(
            checked.map_or_else(|status| status.code(), |()| Code::Ok),
            expected
        );
        let shown = headers.get(AUTHORIZATION);
        assert!(!is_known || shown.is_some_and(HeaderValue::is_sensitive));
    }
}
