//! What this machine has: cores and memory, as far as this process may use them.

use std::fs;
use std::path::Path;

/// The memory of a machine that does not say how much it has.
const UNKNOWN: u64 = 1 << 30;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory: u64,
}

impl Machine {
    /// This one, within the limits that the system sets to this process (its affinity and its
    /// cgroup).
    #[must_use]
    pub fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let total = fs::read_to_string("/proc/meminfo").ok();
        let total = total.as_deref().and_then(total_of).unwrap_or(UNKNOWN);
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = limit_files(&own).into_iter().filter_map(|path| {
            let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok()?;
            text.trim().parse().ok()
        });
        Self {
            cores,
            memory: limits.chain([total]).min().unwrap_or(total),
        }
    }
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The memory that `/proc/meminfo` tells of.
fn total_of(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// The files that may limit the memory of a process in these cgroups, those above them too. In a
/// container its own cgroup is mounted as the root.
fn limit_files(cgroups: &str) -> Vec<String> {
    let mut files = vec![
        "memory.max".to_owned(),
        "memory/memory.limit_in_bytes".to_owned(),
    ];
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next());
        let above = |path: &str| -> Vec<String> {
            let path = Path::new(path.trim_start_matches('/'));
            let parts = path.ancestors().filter(|part| part.iter().count() > 0);
            parts.map(|part| part.display().to_string()).collect()
        };
        for part in path.map(above).unwrap_or_default() {
            if controllers.is_empty() {
                files.push(format!("{part}/memory.max"));
            } else if controllers.split(',').any(|name| name == "memory") {
                files.push(format!("memory/{part}/memory.limit_in_bytes"));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_that_of_the_machine_or_of_the_nearest_limit() {
        let meminfo = "MemTotal:       24592100 kB\nMemFree:         8 kB\n";
        assert_eq!(total_of(meminfo), Some(24_592_100 << 10));
        assert_eq!(total_of("MemTotal: much"), None);
        let files = limit_files("0::/system.slice/skyfill.service\n");
        assert!(files.contains(&"memory.max".to_owned()), "{files:?}");
        for path in [
            "system.slice/skyfill.service/memory.max",
            "system.slice/memory.max",
        ] {
            assert!(files.contains(&path.to_owned()), "{files:?}");
        }
        let files = limit_files("5:cpu,memory:/docker/x\n0::/\n");
        let file = "memory/docker/x/memory.limit_in_bytes".to_owned();
        assert!(files.contains(&file), "{files:?}");
        let machine = Machine::this();
        assert!(
            machine.cores >= 1 && machine.memory >= 64 << 20,
            "{machine:?}"
        );
    }
}
