//! A simulation from its first step to its last.

use std::time::Duration;

use crate::{
    callers,
    plan::{Event, Plan},
    probes,
    record::{Record, Shared, Window, open},
    servers::{self, Strings},
};

/// The smallest step of the network; within it, each host has a clock of its own that is finer.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// What was seen, and why it has not come to its end, if it has not.
pub(crate) fn simulate(plan: &Plan) -> (Record, Option<String>) {
    let record = Shared::default();
    let mut world = World {
        record: record.clone(),
        strings: Vec::new(),
        sim: turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .simulation_duration(plan.end + Duration::from_secs(60))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(plan.latency)
            .tcp_capacity(4096)
            .enable_random_order()
            .build(),
    };
    let ended = world.populate(plan).and_then(|()| world.live(plan));
    drop(world);
    let problem = ended.err().map(|error| error.to_string());
    (std::mem::take(&mut *open(&record)), problem)
}

struct World {
    sim: turmoil::Sim<'static>,
    strings: Vec<Strings>,
    record: Shared,
}

impl World {
    fn populate(&mut self, plan: &Plan) -> turmoil::Result {
        let config = servers::config(plan).map_err(|error| error.to_string())?;
        for server in 0..plan.servers {
            let strings = Strings::default();
            let (config, record) = (config.clone(), self.record.clone());
            self.strings.push(strings.clone());
            self.sim.host(servers::name(server), move || {
                servers::run(server, config.clone(), strings.clone(), record.clone())
            });
        }
        let (servers, record) = (plan.servers, self.record.clone());
        self.sim
            .host("probes", move || probes::run(servers, record.clone()));
        for caller in 0..plan.callers {
            let times = (callers::longest(plan), plan.end);
            let run = callers::run(caller, plan.servers, plan.seed, times, self.record.clone());
            self.sim.client(callers::name(caller), run);
        }
        Ok(())
    }

    fn live(&mut self, plan: &Plan) -> turmoil::Result {
        let mut events = plan.events.iter().peekable();
        while !self.sim.step()? {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= self.sim.elapsed()) {
                self.happens(event);
            }
        }
        Ok(())
    }

    fn happens(&mut self, event: &Event) {
        let now = self.sim.elapsed();
        tracing::info!(?now, ?event);
        match event {
            Event::Drain { server, away } => {
                self.strings[*server].set_away(*away);
                self.strings[*server].stop.notify_one();
            }
            Event::Crash { server } => {
                self.sim.crash(servers::name(*server));
                if let Some(process) = open(&self.record).latest(*server) {
                    process.killed = Some(now);
                }
            }
            Event::Back { server } => self.sim.bounce(servers::name(*server)),
            Event::Sick { server } => {
                self.strings[*server].set_sick(true);
                open(&self.record)
                    .sick
                    .entry(*server)
                    .or_default()
                    .push(Window::begin(now));
            }
            Event::Well { server } => {
                self.strings[*server].set_sick(false);
                end(open(&self.record).sick.get_mut(server), now);
            }
            Event::Cut { caller, servers } => {
                for server in servers {
                    self.sim
                        .hold(callers::name(*caller), servers::name(*server));
                    let mut record = open(&self.record);
                    record
                        .cuts
                        .entry((*caller, *server))
                        .or_default()
                        .push(Window::begin(now));
                }
            }
            Event::Heal { caller, servers } => {
                for server in servers {
                    self.sim
                        .release(callers::name(*caller), servers::name(*server));
                    end(open(&self.record).cuts.get_mut(&(*caller, *server)), now);
                }
            }
        }
    }
}

fn end(windows: Option<&mut Vec<Window>>, now: Duration) {
    if let Some(window) = windows.and_then(|windows| windows.last_mut()) {
        window.to = Some(now);
    }
}
