//! CPU time and memory of processes, from /proc.

/// Fields of /proc/PID/stat from the third on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

#[allow(clippy::cast_precision_loss)]
fn ticks(fields: &[String], which: &[usize]) -> f64 {
    let sum: u64 = which
        .iter()
        .filter_map(|at| fields.get(*at)?.parse::<u64>().ok())
        .sum();
    sum as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// utime and stime, the 14th and 15th field.
const OWN: &[usize] = &[11, 12];
/// cutime and cstime: of children that ended.
const CHILDREN: &[usize] = &[13, 14];
/// ppid, the fourth field.
const PARENT: usize = 1;

/// CPU seconds of a process.
pub(crate) fn of_process(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |fields| ticks(&fields, OWN))
}

/// Peak memory of a process in KiB.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

/// Memory of a process in KiB, now.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// CPU time of a PostgreSQL server with all of its processes.
pub(crate) struct ServerCpu {
    postmaster: u32,
}

impl ServerCpu {
    pub(crate) fn of(postmaster: u32) -> Self {
        Self { postmaster }
    }

    pub(crate) fn seconds(&self) -> f64 {
        let own = stat(self.postmaster)
            .map_or(0.0, |fields| ticks(&fields, OWN) + ticks(&fields, CHILDREN));
        let pids = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let parent = self.postmaster.to_string();
        let live = pids
            .filter_map(stat)
            .filter(|fields| fields.get(PARENT) == Some(&parent));
        own + live.map(|fields| ticks(&fields, OWN)).sum::<f64>()
    }
}

/// CPU seconds of all processes of the machine, and those that its host took from it.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn of_machine() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = fields
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system; not idle and iowait; irq, softirq, steal.
    let busy = ticks.iter().take(3).chain(ticks.iter().skip(5).take(3));
    busy.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// This machine, for a report.
pub(crate) fn machine() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |text| text.trim_start_matches([' ', '\t', ':']));
    let here = process::Machine::this();
    format!(
        "{} cores, {} GiB, {}",
        here.cores,
        here.memory >> 30,
        if model.is_empty() {
            "unknown CPU"
        } else {
            model
        }
    )
}
