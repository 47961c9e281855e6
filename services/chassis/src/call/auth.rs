//! Who may call what: bearer tokens, and methods by client certificate. Both are off unless a file is
//! given, and neither is asked about health.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::{Choice, ConstantTimeEq as _};
use tonic::Status;

use crate::{
    settings::Error,
    settings::config::Config,
    state::reloaded_files::{File, Reload, Reloaded},
    wire::certificate::CertificateName,
};

/// What callers have to show.
#[derive(Default)]
pub(crate) struct Auth {
    tokens: Option<Arc<Reloaded<Vec<SecretString>>>>,
    allowed: Option<Arc<Reloaded<Rules>>>,
}

/// Which methods are allowed to whom.
type Rules = HashMap<CertificateName, Vec<String>>;

impl Auth {
    /// Reads the files of the configuration.
    pub(crate) fn read(config: &Config) -> Result<Self, Error> {
        let file = |setting, path| vec![File { setting, path }];
        let tokens = config.tokens_file.clone().map(|path| {
            let files = file("TOKENS_FILE", path);
            Reloaded::read("tokens", files, |files| parsed(files, tokens_in))
        });
        let allowed = config.allow_file.clone().map(|path| {
            let files = file("ALLOW_FILE", path);
            Reloaded::read("rules", files, |files| parsed(files, rules_in))
        });
        Ok(Self {
            tokens: tokens.transpose()?.map(Arc::new),
            allowed: allowed.transpose()?.map(Arc::new),
        })
    }

    /// Whether callers have to show anything.
    pub(crate) fn is_on(&self) -> bool {
        self.tokens.is_some() || self.allowed.is_some()
    }

    /// The files, to be followed.
    pub(crate) fn files(&self) -> impl Iterator<Item = Arc<dyn Reload>> + use<> {
        let tokens = self.tokens.clone().map(|files| files as Arc<dyn Reload>);
        let allowed = self.allowed.clone().map(|files| files as Arc<dyn Reload>);
        tokens.into_iter().chain(allowed)
    }

    /// Whether a call may go on. `names` are those of the client's certificate.
    pub(crate) fn check(
        &self,
        path: &str,
        headers: &mut HeaderMap,
        names: &[CertificateName],
    ) -> Result<(), Status> {
        if let Some(tokens) = &self.tokens {
            check_token(&tokens.current(), headers.get(AUTHORIZATION))?;
        }
        if let Some(shown) = headers.get_mut(AUTHORIZATION) {
            shown.set_sensitive(true);
        }
        match &self.allowed {
            Some(allowed) => check_names(&allowed.current(), path, names),
            None => Ok(()),
        }
    }
}

/// Compares with every token in full, so that the time taken says nothing of any.
fn check_token(tokens: &[SecretString], shown: Option<&HeaderValue>) -> Result<(), Status> {
    let shown = shown.ok_or_else(|| Status::unauthenticated("missing bearer token"))?;
    let (scheme, shown) = (shown.as_bytes())
        .split_at_checked(7)
        .unwrap_or((b"", shown.as_bytes()));
    let known = tokens.iter().fold(Choice::from(0), |known, token| {
        known | token.expose_secret().as_bytes().ct_eq(shown)
    });
    if scheme.eq_ignore_ascii_case(b"bearer ") && known.into() {
        Ok(())
    } else {
        Err(Status::unauthenticated("invalid token"))
    }
}

fn check_names(allowed: &Rules, path: &str, names: &[CertificateName]) -> Result<(), Status> {
    let covers = |method: &String| match method.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path == method,
    };
    let mut methods = names.iter().filter_map(|name| allowed.get(name)).flatten();
    if methods.any(covers) {
        Ok(())
    } else {
        let who = names.first().map(CertificateName::to_string);
        let who = who.unwrap_or_else(|| "a certificate without a name".to_owned());
        Err(Status::permission_denied(format!(
            "{who} may not call {path:.200}"
        )))
    }
}

/// What the one file says. The problems that `parse` finds are to name lines by their numbers only: a file
/// of tokens may have been given for one of rules.
fn parsed<T>(
    files: &[(&File, &[u8])],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Error> {
    let [(file, bytes), ..] = files else {
        return Err("a file is needed".into());
    };
    let text = str::from_utf8(pem::without_mark(bytes));
    let text = text.map_err(|_| file.problem(&"not UTF-8"))?;
    parse(text).map_err(|problem| file.problem(&problem))
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).zip(1..);
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| (number, line))
}

fn tokens_in(text: &str) -> Result<Vec<SecretString>, String> {
    let tokens: Vec<_> = lines(text).map(|(_, token)| token.into()).collect();
    if tokens.is_empty() {
        return Err("no token in this file".to_owned());
    }
    Ok(tokens)
}

fn rules_in(text: &str) -> Result<Rules, String> {
    let mut allowed = Rules::new();
    for (number, line) in lines(text) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = CertificateName::in_rule(&words.next().unwrap_or_default());
        let methods: Vec<_> = words.collect();
        if methods.is_empty() {
            return Err(format!("line {number}: a name that is allowed nothing"));
        }
        if let Some(wrong) = methods.iter().position(|method| !is_pattern(method)) {
            let word = wrong + 2;
            return Err(format!(
                "line {number}: word {word} is not *, /package.Service/* or /package.Service/Method"
            ));
        }
        allowed.entry(name).or_default().extend(methods);
    }
    Ok(allowed)
}

fn is_pattern(method: &str) -> bool {
    let parts: Vec<_> = method.split('/').collect();
    match parts[..] {
        ["*"] => true,
        ["", service, "*"] => !service.is_empty(),
        ["", service, method] => !service.is_empty() && !method.is_empty() && !method.contains('*'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::{CertificateName, check_names, check_token, rules_in, tokens_in};

    #[test]
    fn a_token_is_known_whole_or_not_at_all() {
        let tokens = tokens_in("# two\nalpha\n beta-2 \n").expect("tokens");
        let shown = format!("{tokens:?}");
        assert!(
            !shown.contains("alpha") && !shown.contains("beta"),
            "{shown}"
        );
        for (shown, known) in [
            ("Bearer alpha", true),
            ("bearer beta-2", true),
            ("Bearer alph", false),
            ("Bearer alphaa", false),
            ("Bearer ", false),
            ("Basic! alpha", false),
            ("alpha", false),
            ("", false),
        ] {
            let shown = shown.parse().expect("a header");
            assert_eq!(
                check_token(&tokens, Some(&shown)).is_ok(),
                known,
                "{shown:?}"
            );
        }
        check_token(&tokens, None).expect_err("nothing shown");
    }

    #[test]
    fn a_name_may_call_what_its_lines_say() {
        let rules = "# names\nspiffe://x/a  /p.S/Get /q.T/*\n\nb *\nspiffe://x/a /p.S/List\n";
        let allowed = rules_in(rules).expect("rules");
        for (name, path, may) in [
            ("spiffe://x/a", "/p.S/Get", true),
            ("spiffe://x/a", "/p.S/List", true),
            ("spiffe://x/a", "/p.S/Gets", false),
            ("spiffe://x/a", "/q.T/Any", true),
            ("spiffe://x/a", "/q.Tt/Any", false),
            ("b", "/p.S/Get", true),
            ("c", "/p.S/Get", false),
        ] {
            let names = ["other", name].map(CertificateName::in_rule);
            let found = check_names(&allowed, path, &names);
            assert_eq!(found.is_ok(), may, "{name} {path}");
        }
        check_names(&allowed, "/p.S/Get", &[]).expect_err("no name");
        for other in [
            CertificateName::Uri("b".to_owned()),
            CertificateName::Dns("spiffe://x/a".to_owned()),
        ] {
            let found = check_names(&allowed, "/p.S/Get", std::slice::from_ref(&other));
            found.expect_err("a name of another kind");
        }
    }

    #[test]
    fn a_rule_that_says_nothing_useful_is_refused_with_its_line() {
        for (rules, problem) in [
            ("a *\nb", "line 2: a name that is allowed nothing"),
            ("a p.S/Get", "line 1: word 2 is not *"),
            ("a /p.S/G*", "line 1: word 2 is not *"),
            ("a /p.S", "line 1: word 2 is not *"),
            ("a //*", "line 1: word 2 is not *"),
        ] {
            let error = rules_in(rules).expect_err(rules);
            assert!(error.starts_with(problem), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_rules_are_read_or_refused_by_their_line(
            text in "([ab/*.#\\t ]|/p.S/Get|\\n)*",
            path in "/p.S/(Get|[ab*/]*)",
        ) {
            match rules_in(&text) {
                Ok(allowed) => drop(check_names(&allowed, &path, &[CertificateName::Dns("a".to_owned())])),
                Err(problem) => prop_assert!(problem.starts_with("line "), "{problem}"),
            }
        }

        #[test]
        fn any_header_is_a_known_token_or_none(shown in prop::collection::vec(32_u8..127, 0..20)) {
            let header = HeaderValue::from_bytes(&shown).expect("visible");
            let known = shown.eq_ignore_ascii_case(b"bearer a") && shown.ends_with(b"a");
            prop_assert_eq!(check_token(&["a".into()], Some(&header)).is_ok(), known);
        }
    }
}
