//! docs/getting-started.md, run word by word on three machines that have nothing in common but a
//! network. Left out are blocks that need a package mirror (`packages`) or a running systemd (`systemd`);
//! `scp` is played by a script. What the page shows as output is compared.

use crate::common::stand_in;
use pgherd_tests::page::{self, Block, Machine};
use pgherd_tests::{binary, net, process};
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/getting-started.md");

/// One block of commands.
const BLOCK: Duration = Duration::from_secs(60);
/// A block that is repeated until it is right.
const REPEAT: Duration = Duration::from_secs(90);

/// Puts files into the post of the machine with this address.
const SCP: &str = r#"#!/bin/sh
set -e
for last; do :; done
path=${last#*:}; host=${last%%:*}
case ${host#*@} in 10.0.0.11) to=n1 ;; 10.0.0.12) to=n2 ;; 10.0.0.13) to=n3 ;; *) exit 1 ;; esac
mkdir -p "/run/post/$to$path"
for file; do case $file in -*|"$last") ;; *) cp -p "$file" "/run/post/$to$path" ;; esac; done
"#;

#[test]
fn the_page_leads_to_a_cluster() {
    if stand_in() || net::enter("getting_started::the_page_leads_to_a_cluster") == net::Place::Done
    {
        return;
    }
    let janitor = pgherd_tests::janitor::Janitor::new(&process::scratch_dir(), "pgherd-page-");
    let machines = [
        ("n1", "10.0.0.11"),
        ("n2", "10.0.0.12"),
        ("n3", "10.0.0.13"),
    ];
    net::join_machines(&machines);
    let post = janitor.dir().join("post");
    std::fs::create_dir(&post).unwrap();
    binary::copy_for_everybody(&binary::pgherd(), &post);
    std::fs::write(post.join("scp"), SCP).unwrap();
    let boot = |name: &str| Machine::boot(name, name, &janitor.dir().join(name), &post);
    let mut machines: Vec<Machine> = machines.iter().map(|(name, _)| boot(name)).collect();
    for machine in &machines {
        let programs = "install -m 755 /run/post/pgherd /run/post/scp /usr/local/bin/";
        assert!(machine.run(programs, BLOCK).status.success());
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    for block in page::blocks(&page) {
        perform(&block, &mut machines);
    }
    no_secret_in_sight(&machines);
    drop(machines);
    assert_eq!(left_over(janitor.dir()), Vec::<String>::new());
}

fn perform(block: &Block, machines: &mut [Machine]) {
    if block.has("packages") || block.has("systemd") {
        return;
    }
    let mut ran = false;
    for index in 0..machines.len() {
        if !block.has(&machines[index].name) {
            continue;
        }
        ran = true;
        if block.has("foreground") {
            machines[index].foreground(&block.text);
            continue;
        }
        let begun = Instant::now();
        while let Err(problem) = once(block, &machines[index]) {
            if !block.has("repeat") || begun.elapsed() > REPEAT {
                let logs: String = machines.iter().map(Machine::logs).collect();
                let (line, name) = (block.line, &machines[index].name);
                panic!("docs/getting-started.md:{line} on {name}: {problem}\n{logs}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert!(ran, "line {}: no machine is named", block.line);
}

fn once(block: &Block, machine: &Machine) -> Result<(), String> {
    let output = machine.run(&block.text, BLOCK);
    let text = crate::common::text(&output);
    if std::env::var_os("PGHERD_SHOW_PAGE").is_some() {
        eprintln!("---- {} line {}\n{text}", machine.name, block.line);
    }
    match output.status.success() {
        true => block.printed(&as_on_n1(&text, &machine.name)),
        false => Err(format!("{}: {text}", output.status)),
    }
}

/// What the page shows of several machines is what n1 prints, where systemd runs.
fn as_on_n1(text: &str, name: &str) -> String {
    let told = "systemd has read its units again (systemctl daemon-reload)";
    text.replace("systemd does not run here: nothing was told to it", told)
        .replace(&format!("/etc/pgherd/{name}.yml"), "/etc/pgherd/n1.yml")
}

/// Passwords stand in files for their users alone, and in no command line.
fn no_secret_in_sight(machines: &[Machine]) {
    let look = r#"
. /etc/pgherd/passwords
for secret in $PATRONI_SUPERUSER_PASSWORD $PATRONI_REPLICATION_PASSWORD $PATRONI_RESTAPI_PASSWORD $PATRONI_ETCD3_PASSWORD; do
  for process in /proc/[0-9]*; do
    if tr '\0' ' ' < $process/cmdline 2>/dev/null | grep -F -e $secret; then exit 3; fi
  done
  find /etc/pgherd /etc/etcd /etc/default /etc/systemd /var/lib/postgresql/demo -type f -perm /077 -exec grep -l -F -e $secret {} + && exit 4
done
test $(find /etc/pgherd /etc/etcd -name '*.key' -perm /077 | wc -l) = 0
"#;
    for machine in machines {
        let output = machine.run(look, BLOCK);
        assert!(
            output.status.success(),
            "{}: {}",
            machine.name,
            crate::common::text(&output)
        );
    }
}

/// Processes that name the directory: none may outlive the machines.
fn left_over(dir: &Path) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = process::of_dir(dir);
        if left.is_empty() || Instant::now() > end {
            return left.into_iter().map(|process| process.cmdline).collect();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
