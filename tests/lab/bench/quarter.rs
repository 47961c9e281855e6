//! The Greeter in the smallest task that ECS on Fargate has: a quarter of a processor, 512 MB.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use harness::measurement::percentile;
use tokio::{process::Command, task::spawn_blocking};

use crate::measure::load::{Load, Outcome};

use crate::bench::{
    call::{Call, Files},
    peer::{OURS, Ready},
    report::{MIB, nanoseconds},
    server::Server,
};

const GOAL: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 20;
const MEMORY: &str = "536870912";

/// A control group; gone when it is dropped, if the processes in it are.
struct Group(Vec<PathBuf>);

impl Group {
    /// With the limits of the task, in whichever version this machine has.
    fn make() -> io::Result<Self> {
        const ROOT: &str = "/sys/fs/cgroup";
        let name = format!("bench-{}", process::id());
        let (folders, limits): (&[_], &[_]) = if Path::new(ROOT).join("cgroup.controllers").exists()
        {
            (
                &[""],
                &[("", "cpu.max", "25000 100000"), ("", "memory.max", MEMORY)],
            )
        } else {
            let limits = &[
                ("cpu", "cpu.cfs_period_us", "100000"),
                ("cpu", "cpu.cfs_quota_us", "25000"),
                ("memory", "memory.limit_in_bytes", MEMORY),
            ];
            (&["cpu", "memory"], limits)
        };
        let path = |folder| Path::new(ROOT).join(folder).join(&name);
        let group = Self(folders.iter().map(path).collect());
        for folder in &group.0 {
            fs::create_dir(folder)?;
        }
        for (folder, file, limit) in limits {
            fs::write(path(folder).join(file), limit)?;
        }
        Ok(group)
    }

    /// The same command, in the group from its beginning.
    fn confine(&self, command: &Command) -> Command {
        let command = command.as_std();
        let files = self.0.iter().map(|folder| folder.join("cgroup.procs"));
        let enter: String = files
            .map(|file| format!("echo $$ >{} && ", file.display()))
            .collect();
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", &format!(r#"{enter}exec "$0" "$@""#)])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        shell
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.0 {
            // What is left does no harm, and goes with the machine.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A table of Markdown.
pub(crate) async fn measure(seconds: f64, files: &Files) -> String {
    let mut out = "### On 0.25 vCPU and 512 MB\n\n".to_owned();
    let group = match Group::make() {
        Ok(group) => group,
        Err(error) => {
            return out + &format!("Skipped: no control group can be made here ({error}).\n\n");
        }
    };
    let greeter = Ready::make(&OURS).await.expect("nothing to make");
    let command = greeter.command(Call::Hello, files);
    let server = Server::start(&mut group.confine(&command)).await;
    Call::Hello.check(server.addr).await;
    let time = Duration::from_secs_f64(seconds.max(1.0) * 2.0);
    let held = highest(&server, time).await;
    if held == 0.0 {
        server.stop().await;
        return out + "No rate was held with p99 ≤ 10 ms.\n\n";
    }
    out += "| calls a second | served a second | refused | late | cut off | p50 | p99 | RSS at most |\n\
            |--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for times in [1.0, 1.5, 3.0] {
        let outcome = offer(&server, held * times, time).await;
        row(&mut out, held * times, outcome, time, server.peak_rss());
    }
    server.stop().await;
    let held = format!("\nHeld with p99 ≤ 10 ms: **{held:.0} calls a second**.\n\n");
    out + &held
}

/// The highest rate at which all calls are served and 99 of 100 in time, to a twentieth or so.
async fn highest(server: &Server, time: Duration) -> f64 {
    let addr = server.addr;
    let peak = spawn_blocking(move || Load::new(addr, CONNECTIONS).closed(5, time).served.len());
    let peak = peak.await.expect("a client") as f64 / time.as_secs_f64();
    let (mut held, mut missed) = (0.0, peak * 1.2);
    while missed - held > peak / 20.0 {
        let rate = (held + missed) / 2.0;
        let mut outcome = offer(server, rate, time).await;
        let lost = outcome.shed.len() + outcome.expired + outcome.cut[0];
        let p99 = percentile(&mut outcome.served, 0.99);
        if lost == 0 && p99.is_some_and(|p99| p99 <= GOAL) {
            held = rate;
        } else {
            missed = rate;
        }
    }
    held
}

async fn offer(server: &Server, rate: f64, time: Duration) -> Outcome {
    let addr = server.addr;
    let client = spawn_blocking(move || Load::new(addr, CONNECTIONS).open(rate, time));
    client.await.expect("a client")
}

fn row(out: &mut String, rate: f64, mut outcome: Outcome, time: Duration, rss: u64) {
    let [p50, p99] = [0.5, 0.99].map(|share| {
        let time = percentile(&mut outcome.served, share);
        time.map_or("–".into(), |time| nanoseconds(time.as_nanos() as f64))
    });
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "| {rate:.0} | {:.0} | {} | {} | {} | {p50} | {p99} | {:.1} MiB |",
        outcome.served.len() as f64 / time.as_secs_f64(),
        outcome.shed.len(),
        outcome.expired,
        outcome.cut[0],
        rss as f64 / MIB,
    );
}
