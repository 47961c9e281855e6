//! Files that are reloaded when they change: certificates, tokens, rules.
//!
//! They are polled, not watched: that works on every file system, and in Kubernetes, which replaces a symbolic
//! link to the folder of a mounted Secret and none of its files.
//! <https://kubernetes.io/docs/concepts/configuration/secret/#mounted-secrets-are-updated-automatically>

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
    /// An error that names the setting and the file. It must not quote what was read: the file may hold a
    /// secret, or may be another one than was meant.
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

/// Parses files and their contents.
type Parse<T> = fn(&[(&File, &[u8])]) -> Result<T, Error>;

/// A value that is parsed from files, and replaced when they change.
pub(crate) struct Reloaded<T> {
    what: &'static str,
    files: Vec<File>,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    last_read: Contents,
    /// Why the files, as they are now, are not in use.
    problem: Option<String>,
}

/// The contents of the files, or why they could not be read.
type Contents = Result<Vec<SecretSlice<u8>>, String>;

fn is_unchanged(a: &Contents, b: &Contents) -> bool {
    fn exposed(contents: &[SecretSlice<u8>]) -> impl Iterator<Item = &[u8]> {
        contents.iter().map(SecretSlice::expose_secret)
    }
    match (a, b) {
        (Ok(a), Ok(b)) => exposed(a).eq(exposed(b)),
        (Err(a), Err(b)) => a == b,
        _ => false,
    }
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time; `what` is what they hold, in the plural.
    pub(crate) fn read(
        what: &'static str,
        files: Vec<File>,
        parse: Parse<T>,
    ) -> Result<Self, Error> {
        let contents = read(&files)?;
        let state = State {
            current: Arc::new(parse(&pairs(&files, &contents))?),
            last_read: Ok(contents),
            problem: None,
        };
        Ok(Self {
            what,
            files,
            parse,
            state: Mutex::new(state),
        })
    }

    /// The value in use.
    pub(crate) fn current(&self) -> Arc<T> {
        self.state().current.clone()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files that are reloaded, whatever is parsed from them.
pub(crate) trait Reload: Send + Sync {
    /// What they hold, in the plural, for the log.
    fn what(&self) -> &'static str;

    /// Why the files, as they are now, are not in use.
    fn problem(&self) -> Option<String>;

    /// Reads them, and if they have changed, parses them and returns the outcome. Where that fails, the previous
    /// value stays in use.
    fn reload_if_changed(&self) -> Option<Result<(), String>>;
}

impl<T: Send + Sync> Reload for Reloaded<T> {
    fn what(&self) -> &'static str {
        self.what
    }

    fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    fn reload_if_changed(&self) -> Option<Result<(), String>> {
        let contents = read(&self.files).map_err(|error| error.to_string());
        if is_unchanged(&self.state().last_read, &contents) {
            return None;
        }
        let parsed = contents
            .as_ref()
            .map_err(String::clone)
            .and_then(|contents| {
                let files = pairs(&self.files, contents);
                (self.parse)(&files).map_err(|error| error.to_string())
            });
        let mut state = self.state();
        state.last_read = contents;
        let outcome = parsed.map(|parsed| state.current = Arc::new(parsed));
        state.problem = outcome.clone().err();
        Some(outcome)
    }
}

/// All the files of a server that are reloaded.
pub(crate) type ReloadedFiles = Arc<[Arc<dyn Reload>]>;

/// Why some are not in use as they are now, one line each.
pub(crate) fn problems(all: &[Arc<dyn Reload>]) -> String {
    let problem = |each: &Arc<dyn Reload>| {
        let problem = each.problem()?;
        Some(format!(
            "{} not reloaded, previous in use: {problem}\n",
            each.what()
        ))
    };
    all.iter().filter_map(problem).collect()
}

/// Polls each of them for ever, on its own: a read that blocks, such as one of a pipe, delays no other.
///
/// `report` is called at the start and after each change, with what the files hold and whether they are in use.
pub(crate) async fn poll(all: ReloadedFiles, report: impl Fn(&'static str, bool)) {
    const INTERVAL: Duration = Duration::from_secs(1);
    let each = all.iter().map(async |files| {
        report(files.what(), true);
        loop {
            sleep(INTERVAL).await;
            let polled = files.clone();
            // A panic has been written to standard error; the next poll may succeed.
            if let Ok(Some(outcome)) = spawn_blocking(move || polled.reload_if_changed()).await {
                report(files.what(), outcome.is_ok());
                log_outcome(files.what(), outcome);
            }
        }
    });
    join_all(each).await;
    // There are none.
    std::future::pending().await
}

fn log_outcome(what: &str, outcome: Result<(), String>) {
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
