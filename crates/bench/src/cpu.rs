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
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
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
