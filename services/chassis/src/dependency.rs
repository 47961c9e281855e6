//! What a service asks for elsewhere, such as a database, and whether it is there.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use tokio::sync::watch;

/// Something that a service asks for elsewhere. What is said of it here, the log, `/readyz`, `/metrics`
/// and, where it is required, health repeat. It is away until it is said to be up.
#[derive(Debug)]
pub struct Dependency {
    all: Dependencies,
    index: usize,
}

impl Dependency {
    /// It answers.
    pub fn up(&self) {
        self.set(None);
    }

    /// It does not, for this reason. Each reason is logged once until it is up again.
    pub fn away(&self, reason: &str) {
        self.set(Some(reason));
    }

    fn set(&self, problem: Option<&str>) {
        self.all.states.send_if_modified(|states| {
            let state = &mut states[self.index];
            let changed = state.problem.as_deref() != problem;
            if changed {
                state.problem = problem.map(str::to_owned);
                state.log();
                let dependency = state.name;
                let up = self.all.up.get_or_create(&Label { dependency });
                up.set(problem.is_none().into());
            }
            changed
        });
    }
}

/// All that the services of one server depend on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dependencies {
    states: watch::Sender<Vec<State>>,
    /// 1 for each that is up.
    pub(crate) up: Family<Label, Gauge>,
}

#[derive(Debug)]
pub(crate) struct State {
    name: &'static str,
    /// The service that is NOT_SERVING without it.
    required_by: Option<&'static str>,
    /// Why it is away.
    problem: Option<String>,
    /// What has been logged since it was up.
    logged: Vec<String>,
}

impl State {
    fn log(&mut self) {
        // Reasons may take turns, or have a number in them that never comes again.
        const MOST: usize = 10;
        let dependency = self.name;
        match &self.problem {
            None => {
                self.logged.clear();
                tracing::info!(dependency, "up");
            }
            Some(reason) if self.logged.contains(reason) || self.logged.len() == MOST => {}
            Some(reason) => {
                self.logged.push(reason.clone());
                tracing::warn!(dependency, reason, "away");
            }
        }
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Label {
    dependency: &'static str,
}

impl Dependencies {
    pub(crate) fn add(&self, name: &'static str, required_by: Option<&'static str>) -> Dependency {
        let mut index = 0;
        self.states.send_modify(|states| {
            index = states.len();
            states.push(State {
                name,
                required_by,
                problem: Some("not asked yet".to_owned()),
                logged: Vec::new(),
            });
        });
        self.up.get_or_create(&Label { dependency: name }).set(0);
        let all = self.clone();
        Dependency { all, index }
    }

    /// Whether `service` has all that it requires.
    pub(crate) fn suffice(&self, service: &str) -> bool {
        let states = self.states.borrow();
        let mut missing = states.iter().filter(|state| state.problem.is_some());
        missing.all(|state| state.required_by != Some(service))
    }

    /// What some service requires and does not have, if anything.
    pub(crate) fn missing(&self) -> Option<String> {
        let states = self.states.borrow();
        let required = states.iter().filter(|state| state.required_by.is_some());
        required
            .filter(|state| state.problem.is_some())
            .map(State::to_string)
            .next()
    }

    /// How each is, a line each.
    pub(crate) fn lines(&self) -> String {
        let states = self.states.borrow();
        states.iter().map(|state| format!("{state}\n")).collect()
    }

    /// Every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Vec<State>> {
        self.states.subscribe()
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.problem.as_deref().unwrap_or("up");
        write!(f, "{}: {state}", self.name)
    }
}
