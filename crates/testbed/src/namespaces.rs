//! Machines of a network, each a network namespace with an address of its own. They meet at a
//! bridge, and each can be cut off. Needs root and the program `ip` (package iproute2).

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Networks of this process so far.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Machines, and the bridge. They are removed with the value.
pub struct Machines {
    /// What the names of everything begin with.
    prefix: String,
    /// The third number of the addresses.
    subnet: u8,
    count: u8,
}

impl Machines {
    /// Makes so many, numbered from 0.
    #[must_use]
    pub fn new(count: u8) -> Self {
        let process = std::process::id();
        let network = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let machines = Self {
            prefix: format!("sf{:x}{}", process % 0xfffff, network % 10),
            subnet: u8::try_from((process.wrapping_mul(16) + network) % 250)
                .expect("a small number"),
            count,
        };
        let bridge = machines.bridge();
        let here = machines.here();
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("address add {here}/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        for machine in 0..count {
            let (name, cable) = (machines.name(machine), machines.cable(machine));
            let address = machines.address(machine);
            ip(&format!("netns add {name}"));
            ip(&format!(
                "link add {cable} type veth peer name eth0 netns {name}"
            ));
            ip(&format!("link set {cable} master {bridge} up"));
            ip(&format!("-n {name} address add {address}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} link set lo up"));
        }
        machines
    }

    /// The address of the test itself, as the machines see it.
    #[must_use]
    pub fn here(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, 254)
    }

    /// The address of a machine.
    #[must_use]
    pub fn address(&self, machine: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, machine + 1)
    }

    /// The same command, on a machine.
    #[must_use]
    pub fn on(&self, machine: u8, command: &Command) -> Command {
        let mut there = crate::clean(Command::new("ip"));
        there.args(["netns", "exec", &self.name(machine)]);
        there.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                there.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }

    /// Pulls out a machine's cable.
    pub fn cut(&self, machine: u8) {
        ip(&format!("link set {} down", self.cable(machine)));
    }

    /// Puts it in again.
    pub fn join(&self, machine: u8) {
        ip(&format!("link set {} up", self.cable(machine)));
    }

    fn bridge(&self) -> String {
        format!("{}b", self.prefix)
    }

    fn name(&self, machine: u8) -> String {
        format!("{}n{machine}", self.prefix)
    }

    fn cable(&self, machine: u8) -> String {
        format!("{}v{machine}", self.prefix)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in 0..self.count {
            // With its cable.
            drop(try_ip(&format!("netns delete {}", self.name(machine))));
        }
        drop(try_ip(&format!("link delete {}", self.bridge())));
    }
}

fn try_ip(arguments: &str) -> std::io::Result<std::process::Output> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdin(Stdio::null());
    command.output()
}

fn ip(arguments: &str) {
    let output = try_ip(arguments).expect("ip, of the package iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
}
