//! Files that may change while the server runs: certificates, tokens, rules.
//!
//! They are followed by reading them, because that works on every file system and for Kubernetes, which
//! changes none of the files but a link to their folder.

use std::{
    fmt, fs, iter,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::{task::spawn_blocking, time::sleep};

use crate::settings::Error;

/// A file that a setting names.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) setting: &'static str,
    pub(crate) path: PathBuf,
}

impl File {
    /// The error that this problem with the file is. What was read is to be no part of it: there may be a
    /// secret in the file, or another file than was meant.
    pub(crate) fn problem(&self, problem: &dyn fmt::Display) -> Error {
        format!("{self}: {problem}").into()
    }

    fn read(&self) -> Result<SecretSlice<u8>, Error> {
        let contents = fs::read(&self.path).map_err(|error| self.problem(&error))?;
        Ok(contents.into())
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.setting, self.path.display())
    }
}

/// Makes something of files and what is in them.
type Make<T> = fn(&[(&File, &[u8])]) -> Result<T, Error>;

/// What was last made of some files.
pub(crate) struct Followed<T> {
    what: &'static str,
    files: Vec<File>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    /// What was last read, or why it could not be.
    seen: Seen,
    /// Why what is in the files now is not what is used.
    problem: Option<String>,
}

/// What is in some files, or why they could not be read.
type Seen = Result<Vec<SecretSlice<u8>>, String>;

fn is_the_same(a: &Seen, b: &Seen) -> bool {
    fn exposed(contents: &[SecretSlice<u8>]) -> impl Iterator<Item = &[u8]> {
        contents.iter().map(SecretSlice::expose_secret)
    }
    match (a, b) {
        (Ok(a), Ok(b)) => exposed(a).eq(exposed(b)),
        (Err(a), Err(b)) => a == b,
        _ => false,
    }
}

impl<T> Followed<T> {
    /// Reads the files for the first time; `what` is what they hold, in the plural.
    pub(crate) fn read(what: &'static str, files: Vec<File>, make: Make<T>) -> Result<Self, Error> {
        let contents = read(&files)?;
        let state = State {
            current: Arc::new(make(&pairs(&files, &contents))?),
            seen: Ok(contents),
            problem: None,
        };
        Ok(Self {
            what,
            files,
            make,
            state: Mutex::new(state),
        })
    }

    /// What is used now.
    pub(crate) fn current(&self) -> Arc<T> {
        self.state().current.clone()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files that are followed, whatever is made of them.
pub(crate) trait Follow: Send + Sync {
    /// What is in them, in the plural.
    fn what(&self) -> &'static str;

    /// Why what is in the files now is not what is used.
    fn problem(&self) -> Option<String>;

    /// Reads them anew; returns what came of it, if they have changed. If what is in them cannot be used,
    /// what was there before is.
    fn look(&self) -> Option<Result<(), String>>;
}

impl<T: Send + Sync> Follow for Followed<T> {
    fn what(&self) -> &'static str {
        self.what
    }

    fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    fn look(&self) -> Option<Result<(), String>> {
        let seen = read(&self.files).map_err(|error| error.to_string());
        if is_the_same(&self.state().seen, &seen) {
            return None;
        }
        let made = seen.as_ref().map_err(String::clone).and_then(|contents| {
            (self.make)(&pairs(&self.files, contents)).map_err(|error| error.to_string())
        });
        let mut state = self.state();
        state.seen = seen;
        let outcome = made.map(|made| state.current = Arc::new(made));
        state.problem = outcome.clone().err();
        Some(outcome)
    }
}

/// All the files of a server that are followed.
pub(crate) type AllFollowed = Arc<[Arc<dyn Follow>]>;

/// Why some are not used as they are, a line each.
pub(crate) fn problems(all: &[Arc<dyn Follow>]) -> String {
    let problem = |each: &Arc<dyn Follow>| {
        let problem = each.problem()?;
        Some(format!(
            "{} not reloaded, previous in use: {problem}\n",
            each.what()
        ))
    };
    all.iter().filter_map(problem).collect()
}

/// Follows each of them for ever. One that cannot be read, because it is a pipe, say, holds up no other.
///
/// `report` is told of each kind of file whether it is used as it is.
pub(crate) async fn follow(all: AllFollowed, report: impl Fn(&'static str, bool)) {
    const INTERVAL: Duration = Duration::from_secs(1);
    let each = all.iter().map(async |files| {
        report(files.what(), true);
        loop {
            sleep(INTERVAL).await;
            let looking = files.clone();
            // Of a panic, standard error has the text, and the next look may fare better.
            if let Ok(Some(outcome)) = spawn_blocking(move || looking.look()).await {
                report(files.what(), outcome.is_ok());
                say(files.what(), outcome);
            }
        }
    });
    join_all(each).await;
    // There are none.
    std::future::pending().await
}

fn say(what: &str, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => tracing::info!("{what} reloaded"),
        Err(problem) => tracing::warn!(problem, "reload of {what} failed; keeping the previous"),
    }
}

fn read(files: &[File]) -> Result<Vec<SecretSlice<u8>>, Error> {
    files.iter().map(File::read).collect()
}

fn pairs<'a>(files: &'a [File], contents: &'a [SecretSlice<u8>]) -> Vec<(&'a File, &'a [u8])> {
    iter::zip(files, contents.iter().map(SecretSlice::expose_secret)).collect()
}
