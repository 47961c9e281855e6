//! What `/proc` says of this process, under the names that Prometheus asks of every client library.
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Looks when it is asked.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

/// Of `/proc/self/stat`, proc_pid_stat(5).
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    /// Since the machine has started.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field, the name, may have spaces and parentheses.
        let fields = stat.rsplit_once(") ")?.1;
        let fields: Vec<u64> = fields
            .split(' ')
            .map(|field| field.trim().parse().unwrap_or(0))
            .collect();
        // The first of these is the third of the page.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine has started, in seconds of Unix time.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.parse().ok()
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut add = |name: &str, help: &str, unit: Option<Unit>, metric: &dyn EncodeMetric| {
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
        };
        let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        // Where there is no /proc, there is nothing to say.
        let Some(stat) = Stat::read() else {
            return Ok(());
        };
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        let cpu = ConstCounter::new(seconds(stat.cpu_ticks));
        add(
            "process_cpu",
            "CPU time, user and system",
            Some(Unit::Seconds),
            &cpu,
        )?;
        let resident = gauge(stat.resident_pages * page_size() as u64);
        add(
            "process_resident_memory",
            "Resident memory",
            Some(Unit::Bytes),
            &resident,
        )?;
        let size = gauge(stat.virtual_bytes);
        add(
            "process_virtual_memory",
            "Virtual memory",
            Some(Unit::Bytes),
            &size,
        )?;
        add("process_threads", "Threads", None, &gauge(stat.threads))?;
        if let Some(boot) = boot_time() {
            let start = ConstGauge::new(boot as f64 + seconds(stat.start_ticks));
            add(
                "process_start_time",
                "Start, in Unix time",
                Some(Unit::Seconds),
                &start,
            )?;
        }
        // One is that of the folder itself.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1));
        add(
            "process_open_fds",
            "Open file descriptors",
            None,
            &gauge(open as u64),
        )?;
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        add(
            "process_max_fds",
            "Most file descriptors",
            None,
            &gauge(most),
        )
    }
}
