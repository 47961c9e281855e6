//! What was seen against what was promised.

use std::time::Duration;

use tonic::Code;

use crate::{
    callers,
    plan::{Plan, SETTLED},
    record::{Answer, Call, Check, Kind, Outcome, Process, Record, Window},
    world::TICK,
};

/// gRFC A6, and `MOST_ATTEMPTS` of the channel.
const MOST_ATTEMPTS: usize = 5;

/// What promises are broken.
pub(crate) fn judge(plan: &Plan, record: &Record) -> Vec<String> {
    let judge = Judge { plan, record };
    let mut broken = Vec::new();
    for call in &record.calls {
        broken.extend(judge.answered(call).map(|why| format!("{why}: {call:?}")));
        broken.extend(judge.executed(call));
    }
    for (server, processes) in &record.processes {
        for process in processes {
            let why = judge
                .drained(*server, process)
                .or_else(|| judge.said_so(*server, process));
            broken.extend(why.map(|why| format!("server {server}: {why}: {process:?}")));
        }
    }
    for sitting in &record.sittings {
        let lasted = sitting.to - sitting.from;
        if lasted > judge.longest_connection(sitting.mute) {
            let server = sitting.server;
            broken.push(format!(
                "server {server}: a connection of {lasted:?}: {sitting:?}"
            ));
        }
    }
    broken.extend(
        record
            .checks
            .iter()
            .filter_map(|check| judge.truthful(check)),
    );
    broken
}

struct Judge<'a> {
    plan: &'a Plan,
    record: &'a Record,
}

impl Judge<'_> {
    /// No call is lost, unless something is to blame for it that nobody can help.
    fn answered(&self, call: &Call) -> Option<&'static str> {
        let (begun, ended) = (call.begun, call.ended);
        if ended - begun > call.deadline + 4 * TICK {
            return Some("late");
        }
        match &call.outcome {
            Outcome::Right => None,
            Outcome::Wrong(_) => Some("wrong"),
            Outcome::Failed(Code::Unavailable | Code::DeadlineExceeded, _) => {
                let killed = call.kind != Kind::Idempotent && self.killed(begun, ended);
                let excused = killed || self.cut(call) || self.nobody(call);
                (!excused).then_some("lost")
            }
            Outcome::Failed(..) => Some("a status that nothing explains"),
        }
    }

    /// What may not be carried out twice is not, and nothing is without need.
    fn executed(&self, call: &Call) -> Option<String> {
        let times = self.record.executions.get(&call.number);
        let count = times.map_or(0, Vec::len);
        let most = match call.kind {
            Kind::Idempotent if self.killed(call.begun, call.ended) || self.cut(call) => {
                MOST_ATTEMPTS
            }
            _ => 1,
        };
        let least = usize::from(call.outcome == Outcome::Right);
        (!(least..=most).contains(&count))
            .then(|| format!("carried out {count} times: {call:?} {times:?}"))
    }

    /// A drain is over in time, whatever the clients do, and as soon as the calls are, if all can hear of it.
    fn drained(&self, server: usize, process: &Process) -> Option<&'static str> {
        // That clients have before streams end, GOAWAY and the last connections on their way, and some to spare.
        const GOODBYE: Duration = Duration::from_millis(1_500);
        let told = process.told?;
        let drains = told + self.plan.lame_duck;
        let by = drains + self.plan.drain + 4 * TICK;
        let done = drains + callers::longest(self.plan) + GOODBYE + 8 * self.plan.latency;
        match (process.stopped, process.killed) {
            (Some(stopped), _) if stopped > by => Some("drained too late"),
            (Some(stopped), _) if stopped > done && !self.is_cut_off(server, told, stopped) => {
                Some("drained for longer than there were calls")
            }
            (Some(_), _) => None,
            (None, Some(_)) => None,
            (None, None) => Some("never drained"),
        }
    }

    /// Health says NOT_SERVING before nobody listens any more.
    fn said_so(&self, server: usize, process: &Process) -> Option<&'static str> {
        let (told, stopped) = (process.told?, process.stopped?);
        let since =
            |check: &&Check| check.server == server && (told..stopped).contains(&check.asked);
        let mut since = self.record.checks.iter().filter(since);
        let warned = since
            .find(|check| check.answer != Answer::None)
            .is_some_and(|check| check.answer == Answer::NotServing);
        (!warned).then_some("not said before")
    }

    /// Health says what is, on any connection, from the first moment.
    fn truthful(&self, check: &Check) -> Option<String> {
        let (from, to) = (check.asked, check.answered);
        let is_sick = self
            .sick(check.server)
            .iter()
            .any(|sick| sick.overlaps(from, to));
        let process = (self.record.processes.get(&check.server)?.iter())
            .rfind(|process| process.up + TICK <= from)?;
        let ended = [process.told, process.stopped, process.killed]
            .into_iter()
            .flatten()
            .min();
        let late = process.told.is_some_and(|told| told + 2 * TICK < from);
        let false_alarm =
            !is_sick && ended.is_none_or(|ended| to < ended) && check.answer != Answer::Serving;
        let false_hope = late
            && process.killed.is_none()
            && check.answer == Answer::Serving
            && !self.is_up_within(check.server, from, to);
        (false_alarm || false_hope).then(|| format!("not the truth: {check:?} {process:?}"))
    }

    fn is_up_within(&self, server: usize, from: Duration, to: Duration) -> bool {
        let processes = self.record.processes.get(&server);
        processes.is_some_and(|all| {
            all.iter()
                .any(|process| (from.saturating_sub(TICK)..=to).contains(&process.up))
        })
    }

    fn sick(&self, server: usize) -> &[Window] {
        self.record.sick.get(&server).map_or(&[], Vec::as_slice)
    }

    fn longest_connection(&self, mute: bool) -> Duration {
        // `handshake_timeout`, and the notice after the grace.
        const HANDSHAKE: Duration = Duration::from_secs(5);
        const NOTICE: Duration = Duration::from_secs(5);
        let there_and_back = 2 * self.plan.latency + 4 * TICK;
        there_and_back
            + match mute {
                true => HANDSHAKE,
                false => self.plan.age.mul_f64(1.1) + self.plan.grace + NOTICE,
            }
    }

    /// Whether a process with open calls may have been killed then.
    fn killed(&self, from: Duration, to: Duration) -> bool {
        let killed = Window {
            from: from.saturating_sub(4 * TICK),
            to: Some(to),
        };
        let processes = self.record.processes.values().flatten();
        let mut killings = processes.filter_map(|process| process.killed);
        killings.any(|at| killed.overlaps(at, at))
    }

    /// Whether the caller was cut off from a server then, or had been until a moment before.
    fn cut(&self, call: &Call) -> bool {
        let after = 2 * self.plan.latency + 4 * TICK;
        (0..self.plan.servers).any(|server| {
            let cuts = self
                .record
                .cuts
                .get(&(call.caller, server))
                .into_iter()
                .flatten();
            cuts.map(|cut| Window {
                to: cut.to.map(|to| to + after),
                ..*cut
            })
            .any(|cut| cut.overlaps(call.begun, call.ended))
        })
    }

    /// Whether some caller was cut off from the server then.
    fn is_cut_off(&self, server: usize, from: Duration, to: Duration) -> bool {
        let cuts = (self.record.cuts.iter()).filter(|((_, of), _)| *of == server);
        let mut cuts = cuts.flat_map(|(_, cuts)| cuts);
        cuts.any(|cut| cut.overlaps(from, to))
    }

    /// Whether there was a moment in which the caller had no server that it must know of.
    fn nobody(&self, call: &Call) -> bool {
        let mut at = call.begun;
        while at <= call.ended {
            if !(0..self.plan.servers).any(|server| self.is_known(call.caller, server, at)) {
                return true;
            }
            at += 4 * TICK;
        }
        false
    }

    /// Whether the server takes calls then, and has for so long that the caller must have found it.
    fn is_known(&self, caller: usize, server: usize, at: Duration) -> bool {
        let processes = self.record.processes.get(&server).into_iter().flatten();
        let cuts = self
            .record
            .cuts
            .get(&(caller, server))
            .into_iter()
            .flatten();
        let takes_calls = |process: &Process| {
            let settled = if process.up < Duration::from_secs(1) {
                Duration::ZERO
            } else {
                SETTLED
            };
            let drains = process.told.map(|told| told + self.plan.lame_duck);
            let ends = [drains, process.killed].into_iter().flatten().min();
            process.up + settled <= at && ends.is_none_or(|end| at < end)
        };
        let (from, to) = (at.saturating_sub(SETTLED), at);
        processes.into_iter().any(takes_calls)
            && !cuts.into_iter().any(|cut| cut.overlaps(from, to))
    }
}
