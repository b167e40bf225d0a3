//! A network of our own: a bridge in a private network namespace, one namespace per member, and
//! cables that can be cut. Needs root.
//!
//! The test runs itself again inside `unshare --net --mount`, so nothing of this is ever visible
//! outside, and the kernel removes all of it when the last process is gone.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

const INSIDE: &str = "PGHERD_TESTS_PRIVATE_NETWORK";

/// Where a test of a private network stands after [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside: go on.
    Inside,
    /// The test ran inside and passed, or can not run here (the reason is on stderr): return.
    Done,
}

/// Runs the test `name` (full path as libtest shows it) again in private namespaces.
///
/// # Panics
/// When it fails there, when there is none of this name, or when it can not run and must ([`crate::skip`]).
pub fn enter(name: &str) -> Place {
    // Whoever runs a test that is ignored otherwise wants it to run inside too.
    let exact = ["--exact", name, "--include-ignored"];
    enter_with(&[&exact[..], &["--nocapture", "--test-threads=1"]].concat())
}

/// Runs this program again in private namespaces, with these arguments.
///
/// # Panics
/// When it fails there, or can not run and must ([`crate::skip`]).
pub fn enter_with(args: &[&str]) -> Place {
    if let Some(mark) = std::env::var_os(INSIDE) {
        std::fs::write(mark, "here").expect("tell whoever waits outside");
        return Place::Inside;
    }
    if !nix::unistd::geteuid().is_root() {
        crate::skip::lacking(
            crate::skip::Need::Root,
            "private networks and mounts need root",
        );
        return Place::Done;
    }
    let exe = std::env::current_exe().expect("the path of this program");
    let mark = tempfile::NamedTempFile::new().expect("make a file");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .args(["sh", "-c", "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec \"$0\" \"$@\""])
        .arg(exe)
        .args(args)
        .env(INSIDE, mark.path())
        .status()
        .expect("run unshare (package util-linux)");
    assert!(
        status.success(),
        "failed inside the private network: {status}"
    );
    let here = std::fs::read(mark.path()).unwrap_or_default();
    assert!(!here.is_empty(), "no test of this name: {args:?}");
    Place::Done
}

/// The bridge. The test itself and etcd live at [`Network::host`]; members at addresses of their own.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<()>,
}

impl Network {
    /// Makes the bridge; only after [`enter`] answered `Inside`.
    ///
    /// # Panics
    /// When called outside, or `ip` fails.
    pub fn new() -> Network {
        assert!(std::env::var_os(INSIDE).is_some(), "call net::enter first");
        ip("link add ph0 type bridge forward_delay 0");
        ip(&format!("addr add {}/24 dev ph0", Self::HOST));
        ip("link set ph0 up");
        Network {
            inner: Arc::new(()),
        }
    }

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 213, 7, 1);

    /// Address of the bridge: where etcd listens.
    pub fn host(&self) -> String {
        Self::HOST.to_string()
    }

    /// Makes the namespace of a member and gives back its name and address.
    pub(crate) fn plug(&self, index: usize) -> (String, String) {
        let _ = &self.inner;
        let (ns, address) = (format!("ph{index}"), format!("10.213.7.{}", 10 + index));
        ip(&format!("netns add {ns}"));
        // As the card of a machine that was switched off and on again, which its neighbours still know.
        let card = format!("02:00:0a:d5:07:{:02x}", 10 + index);
        ip(&format!(
            "link add phv{index} type veth peer name eth0 address {card} netns {ns}"
        ));
        ip(&format!("link set phv{index} master ph0 up"));
        ip(&format!("-n {ns} addr add {address}/24 dev eth0"));
        ip(&format!("-n {ns} link set eth0 up"));
        ip(&format!("-n {ns} link set lo up"));
        (ns, address)
    }

    /// The machine at `index` is switched off: not even the end of its connections is told to anybody, and
    /// its kernel remembers none of them when it is plugged again.
    pub(crate) fn unplug(&self, index: usize) {
        ip(&format!("link del phv{index}"));
        ip(&format!("netns del ph{index}"));
    }

    /// Drops what is sent from one cable to another, silently, until [`Network::let_pass`]. Addresses are
    /// still resolved, as they are where a router is in between.
    pub(crate) fn drop_packets(&self, from: usize, to: usize) {
        nft("add table bridge drops");
        nft("add chain bridge drops f { type filter hook forward priority 0; }");
        nft(&format!(
            "add rule bridge drops f iifname phv{from} oifname phv{to} ether type ip drop"
        ));
    }

    /// Ends all of [`Network::drop_packets`].
    pub(crate) fn let_pass(&self) {
        nft("add table bridge drops");
        nft("delete table bridge drops");
    }

    /// Drops everything that the member at `index` sends and is sent, silently: on the bridge, where
    /// nothing of the member's own kernel state (carrier, routes, rules) changes.
    pub(crate) fn cut(&self, index: usize) {
        let table = format!("cut{index}");
        nft(&format!("add table bridge {table}"));
        for (chain, hook, side) in [
            ("i", "prerouting", "iifname"),
            ("o", "postrouting", "oifname"),
        ] {
            nft(&format!(
                "add chain bridge {table} {chain} {{ type filter hook {hook} priority 0; }}"
            ));
            nft(&format!(
                "add rule bridge {table} {chain} {side} phv{index} drop"
            ));
        }
    }

    /// Drops everything between two cables, silently.
    pub(crate) fn part(&self, one: usize, other: usize) {
        let table = format!("part{one}_{other}");
        nft(&format!("add table bridge {table}"));
        nft(&format!(
            "add chain bridge {table} f {{ type filter hook forward priority 0; }}"
        ));
        for (from, to) in [(one, other), (other, one)] {
            nft(&format!(
                "add rule bridge {table} f iifname phv{from} oifname phv{to} drop"
            ));
        }
    }

    /// Ends [`Network::part`].
    pub(crate) fn join(&self, one: usize, other: usize) {
        nft(&format!("delete table bridge part{one}_{other}"));
    }

    /// Lets packets pass again.
    pub(crate) fn mend(&self, index: usize) {
        nft(&format!("delete table bridge cut{index}"));
    }
}

/// Whether packets can be dropped here; if not, why.
///
/// # Errors
/// What is missing.
pub fn can_drop_packets() -> Result<(), String> {
    let output = Command::new("nft").arg("list tables bridge").output();
    let output = output.map_err(|e| format!("nft (package nftables): {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "nft: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// Joins network namespaces of these names and addresses; only after [`enter`] answered `Inside`.
///
/// # Panics
/// When called outside, or `ip` fails.
pub fn join_machines(machines: &[(&str, &str)]) {
    assert!(std::env::var_os(INSIDE).is_some(), "call net::enter first");
    ip("link add lan type bridge forward_delay 0");
    ip("link set lan up");
    for (name, address) in machines {
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add to-{name} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("link set to-{name} master lan up"));
        ip(&format!("-n {name} addr add {address}/24 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
    }
}

fn ip(args: &str) {
    let words: Vec<&str> = args.split(' ').collect();
    run("ip", "iproute2", &words);
}

fn nft(command: &str) {
    run("nft", "nftables", &[command]);
}

fn run(program: &str, package: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program} (package {package}): {e}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
}
