//! What a service asks for elsewhere, such as a database, and whether it is there.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use tokio::sync::watch;

/// Something that a service asks for elsewhere. What is said of it here, the log, `/readyz`, `/metrics`
/// and, where it is required, health repeat. It is unavailable until it is said to be up.
#[derive(Debug)]
pub struct Dependency {
    all: Dependencies,
    index: usize,
}

impl Dependency {
    /// Has health say NOT_SERVING of this service, by its full name, while the dependency is unavailable.
    #[must_use]
    pub fn required_by(self, service: &'static str) -> Self {
        self.with(Requirement::Service(service))
    }

    pub(crate) fn with(self, required: Requirement) -> Self {
        (self.all.states).send_modify(|states| states[self.index].required = required);
        self
    }

    /// It answers.
    pub fn up(&self) {
        self.set(None);
    }

    /// It does not, for this reason. Each reason is logged once until it is up again.
    pub fn unavailable(&self, reason: &str) {
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
    required: Requirement,
    /// Why it is unavailable.
    problem: Option<String>,
    /// What has been logged since it was up.
    logged: Vec<String>,
}

/// What is NOT_SERVING while a dependency is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    Nothing,
    /// The service of this name.
    Service(&'static str),
    /// Every service, and the server as a whole.
    Process,
}

impl State {
    fn log(&mut self) {
        let dependency = self.name;
        match &self.problem {
            None => {
                self.logged.clear();
                tracing::info!(dependency, "up");
            }
            Some(reason) if is_news(&mut self.logged, reason) => {
                tracing::warn!(dependency, reason, "unavailable");
            }
            Some(_) => {}
        }
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Label {
    dependency: &'static str,
}

impl Dependencies {
    pub(crate) fn add(&self, name: &'static str) -> Dependency {
        let mut index = 0;
        self.states.send_modify(|states| {
            index = states.len();
            states.push(State {
                name,
                required: Requirement::Nothing,
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
        missing.all(|state| match state.required {
            Requirement::Nothing => true,
            Requirement::Service(name) => name != service,
            Requirement::Process => false,
        })
    }

    /// What some service requires and does not have, if anything.
    pub(crate) fn missing(&self) -> Option<String> {
        let states = self.states.borrow();
        let required = (states.iter()).filter(|state| state.required != Requirement::Nothing);
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

/// Whether a reason is to be logged after these. They may take turns, or have a number in them that
/// never comes again.
fn is_news(logged: &mut Vec<String>, reason: &str) -> bool {
    const MOST: usize = 10;
    let news = logged.len() < MOST && logged.iter().all(|earlier| earlier != reason);
    if news {
        logged.push(reason.to_owned());
    }
    news
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.problem.as_deref().unwrap_or("up");
        write!(f, "{}: {state}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::is_news;

    #[test]
    fn reasons_that_take_turns_or_never_end_are_logged_a_few_times() {
        let mut logged = Vec::new();
        assert!(is_news(&mut logged, "refused"));
        assert!(is_news(&mut logged, "reset"));
        assert!(!is_news(&mut logged, "refused"));
        let news = (0..1000).filter(|port| is_news(&mut logged, &format!("port {port}")));
        assert_eq!(news.count(), 8);
    }
}
