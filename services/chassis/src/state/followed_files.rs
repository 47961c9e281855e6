//! Files that may change while the server runs: certificates, tokens, rules.
//!
//! Changes are detected by polling. That works on every file system and with Kubernetes, which does not change
//! the files but a symbolic link to their folder.

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
    /// The error for this problem with the file. It must not quote the content: the file may contain a
    /// secret, or be another file than intended.
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

/// Parses the content of files.
type Make<T> = fn(&[(&File, &[u8])]) -> Result<T, Error>;

/// The last valid value of some files.
pub(crate) struct Followed<T> {
    what: &'static str,
    files: Vec<File>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    /// The content that was last read, or why it could not be read.
    seen: Seen,
    /// Why the current content of the files is not in use.
    problem: Option<String>,
}

/// The content of some files, or why they could not be read.
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
    /// Reads the files for the first time; `what` names their content, in the plural.
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

    /// The value in use.
    pub(crate) fn current(&self) -> Arc<T> {
        self.state().current.clone()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Followed files, independent of the type of their value.
pub(crate) trait Follow: Send + Sync {
    /// The name of their content, in the plural.
    fn what(&self) -> &'static str;

    /// Why the current content of the files is not in use.
    fn problem(&self) -> Option<String>;

    /// Reads them again; returns the result if they have changed. If the new content is invalid, the previous
    /// value stays in use.
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

/// All followed files of a server.
pub(crate) type AllFollowed = Arc<[Arc<dyn Follow>]>;

/// Why the current content of some files is not in use, one line each.
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

/// Follows each of them for ever. One whose read blocks, such as a pipe, delays no other.
///
/// `report` is called for each kind of file with whether its current content is in use.
pub(crate) async fn follow(all: AllFollowed, report: impl Fn(&'static str, bool)) {
    const INTERVAL: Duration = Duration::from_secs(1);
    let each = all.iter().map(async |files| {
        report(files.what(), true);
        loop {
            sleep(INTERVAL).await;
            let looking = files.clone();
            // A panic is printed on standard error, and the next read may succeed.
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
