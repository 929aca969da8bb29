//! Two real network namespaces with a cable between them, and what can be done to a cable.

use std::process::Command;

use edgetrail_tests::process::succeed;

/// Removed when dropped, with everything in it.
#[derive(Debug)]
pub(super) struct Cable {
    pub(super) namespace: String,
    near: String,
    /// This end's address; the other end's is the next one.
    pub(super) address: String,
}

impl Cable {
    /// Fails where this user may not make namespaces.
    pub(super) fn lay(number: u8) -> Self {
        let id = std::process::id();
        let (namespace, near) = (format!("edgetrail-{id}-{number}"), format!("et{}-{number}", id % 1_000_000));
        succeed(Command::new("ip").args(["netns", "add", &namespace]));
        // 198.18.0.0/15 is for tests of networks (RFC 2544): nothing real lies there.
        let net = format!("198.{}.{}.{}", 18 + id / 4096 % 2, id / 16 % 256, id % 16 * 16 + u32::from(number % 4) * 4);
        let (head, last) = net.rsplit_once('.').expect("it has dots");
        let last: u32 = last.parse().expect("made of a number");
        let (address, other) = (format!("{head}.{}", last + 1), format!("{head}.{}", last + 2));
        let cable = Self { namespace, near, address };
        cable.ip(&["link", "add", &cable.near, "type", "veth", "peer", "name", "far", "netns", &cable.namespace]);
        cable.ip(&["addr", "add", &format!("{}/30", cable.address), "dev", &cable.near]);
        cable.ip(&["link", "set", &cable.near, "up"]);
        cable.ip(&["-n", &cable.namespace, "addr", "add", &format!("{other}/30"), "dev", "far"]);
        cable.ip(&["-n", &cable.namespace, "link", "set", "far", "up"]);
        cable.ip(&["-n", &cable.namespace, "link", "set", "lo", "up"]);
        cable
    }

    /// Pulled out, or in again.
    pub(super) fn plug(&self, connected: bool) {
        self.ip(&["link", "set", &self.near, if connected { "up" } else { "down" }]);
        if connected {
            // Taking a link down takes nothing from it but its routes, which come back with it.
            self.ip(&["link", "show", "up", "dev", &self.near]);
        }
    }

    /// Of what comes in at the far end, this share is lost: 1.0 is a peer that vanished without a word.
    pub(super) fn lose(&self, share: f64) {
        self.heal();
        let share = format!("{share:.3}");
        self.inside(&[
            "iptables",
            "-A",
            "INPUT",
            "-i",
            "far",
            "-m",
            "statistic",
            "--mode",
            "random",
            "--probability",
            &share,
            "-j",
            "DROP",
        ]);
    }

    /// No more bits a second than this leave the agent.
    pub(super) fn slow(&self, rate: &str) {
        self.inside(&["tc", "qdisc", "replace", "dev", "far", "root", "tbf", "rate", rate, "burst", "10k", "latency", "50ms"]);
    }

    pub(super) fn heal(&self) {
        self.inside(&["iptables", "-F", "INPUT"]);
        // There may be none.
        drop(Command::new("ip").args(["netns", "exec", &self.namespace, "tc", "qdisc", "del", "dev", "far", "root"]).output());
    }

    fn ip(&self, arguments: &[&str]) {
        succeed(Command::new("ip").args(arguments));
    }

    fn inside(&self, arguments: &[&str]) {
        succeed(Command::new("ip").args(["netns", "exec", &self.namespace]).args(arguments));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The far end goes with the namespace, the near end with the far one.
        drop(Command::new("ip").args(["netns", "del", &self.namespace]).output());
        drop(Command::new("ip").args(["link", "del", &self.near]).output());
    }
}
