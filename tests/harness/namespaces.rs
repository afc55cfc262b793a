//! Machines on a network of their own: network namespaces on a bridge. They need the right to make such; without it a test
//! says so and passes over what it cannot do.

use std::process::Command;

/// Namespaces 1 to `count`, which reach each other and the test; gone when dropped.
pub struct Network {
    prefix: String,
    subnet: String,
    count: u64,
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip cannot be run: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("ip {}: {}", arguments.join(" "), told.trim()))
}

impl Network {
    /// Makes them; the reason why not, where that is not permitted.
    pub fn new(count: u64) -> Result<Network, String> {
        let process = std::process::id();
        // Names of interfaces have at most fifteen characters.
        let prefix = format!("alv{process}");
        let subnet = format!("10.{}.{}", 200 + process % 50, process / 50 % 250);
        let network = Network { prefix, subnet, count };
        let bridge = format!("{}b", network.prefix);
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["address", "add", &format!("{}.254/24", network.subnet), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 1..=count {
            let (name, outside) = (network.name(node), network.outside(node));
            ip(&["netns", "add", &name])?;
            ip(&["link", "add", &outside, "type", "veth", "peer", "name", "inside", "netns", &name])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            ip(&["-n", &name, "address", "add", &format!("{}/24", network.host(node)), "dev", "inside"])?;
            ip(&["-n", &name, "link", "set", "inside", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// The namespace's name.
    pub fn name(&self, node: u64) -> String {
        format!("{}n{node}", self.prefix)
    }

    fn outside(&self, node: u64) -> String {
        format!("{}v{node}", self.prefix)
    }

    /// Its address.
    pub fn host(&self, node: u64) -> String {
        format!("{}.{node}", self.subnet)
    }

    /// Takes a machine off the network, or puts it back.
    pub fn plug(&self, node: u64, plugged: bool) {
        ip(&["link", "set", &self.outside(node), if plugged { "up" } else { "down" }]).expect("it is ours");
    }

    /// From now on, or no longer, what one sends to the other is lost.
    pub fn lose(&self, from: u64, to: u64, lost: bool) {
        let (name, host) = (self.name(from), self.host(to));
        let change = if lost { "add" } else { "del" };
        ip(&["-n", &name, "route", change, "blackhole", &format!("{host}/32")]).expect("it is ours");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was never made cannot be removed.
        for node in 1..=self.count {
            let _ = ip(&["link", "del", &self.outside(node)]);
            let _ = ip(&["netns", "del", &self.name(node)]);
        }
        let _ = ip(&["link", "del", &format!("{}b", self.prefix)]);
    }
}
