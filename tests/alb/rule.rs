//! Which target group a path belongs to.

use std::{fmt, str::FromStr};

/// A path pattern and the target group that its requests are forwarded to, written `PATTERN=GROUP`.
///
/// In a pattern `*` is any number of characters and `?` is one; case matters, and 128 characters are
/// the most.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html#path-conditions>
#[derive(Debug, Clone)]
pub struct Rule {
    pattern: String,
    pub(super) group: String,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, group) = text.rsplit_once('=').ok_or("not PATTERN=GROUP")?;
        if pattern.is_empty() || pattern.len() > 128 {
            return Err("a pattern has 1 to 128 characters".into());
        }
        Ok(Self {
            pattern: pattern.into(),
            group: group.into(),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.group)
    }
}

impl Rule {
    pub(super) fn matches(&self, path: &str) -> bool {
        let (pattern, path) = (self.pattern.as_bytes(), path.as_bytes());
        let (mut at, mut in_path) = (0, 0);
        // The last star, and where in the path what follows it was last tried.
        let mut star = None;
        while in_path < path.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, in_path));
                    at += 1;
                }
                Some(&byte) if byte == b'?' || byte == path[in_path] => {
                    at += 1;
                    in_path += 1;
                }
                _ => {
                    let Some((star_at, tried)) = star else {
                        return false;
                    };
                    star = Some((star_at, tried + 1));
                    (at, in_path) = (star_at + 1, tried + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}
