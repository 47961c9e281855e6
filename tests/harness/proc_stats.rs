//! What a process takes, as Linux tells in `/proc`.

use std::{fs, time::Duration};

use rustix::param::clock_ticks_per_second;
use tokio::process::Child;

/// The processor time that it has used so far, that of threads which have ended included, to the hundredth of
/// a second. Threads alone know it to the nanosecond.
///
/// # Panics
///
/// If the process has ended, as all of these.
pub fn cpu(child: &Child) -> Duration {
    let stat = read(child, "stat");
    // After the name, which may hold anything, utime and stime are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_secs_f64(ticks.sum::<u64>() as f64 / clock_ticks_per_second() as f64)
}

/// Resident memory in bytes.
pub fn rss(child: &Child) -> u64 {
    memory(child, "VmRSS:")
}

/// The most resident memory so far, in bytes.
pub fn peak_rss(child: &Child) -> u64 {
    memory(child, "VmHWM:")
}

fn memory(child: &Child, field: &str) -> u64 {
    let status = read(child, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.expect(field).trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

fn read(child: &Child, file: &str) -> String {
    let pid = child.id().expect("running");
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("/proc")
}
