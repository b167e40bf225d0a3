//! What `up` says to the person in front of it.

use super::stage::Stage;
use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// One line. A closed output is no reason to leave processes behind.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line with the seconds since the first.
pub(super) fn event(text: &str) {
    let seconds = STARTED.get_or_init(Instant::now).elapsed().as_secs_f64();
    say(&format!("{seconds:8.1} s  {text}"));
}

/// How to talk to the cluster and how to break it.
pub(super) fn introduce(stage: &Stage) {
    let hosts = vec!["127.0.0.1"; stage.nodes.len()].join(",");
    let ports: Vec<String> = stage
        .nodes
        .iter()
        .map(|node| node.port.to_string())
        .collect();
    let mut text = format!(
        "\nConnect to whichever node is the primary:\n\n  psql \"host={hosts} port={} user=postgres \
         dbname=postgres passfile={} target_session_attrs=read-write\"\n\n",
        ports.join(","),
        stage.pass_file.display(),
    );
    text.push_str("Break it, and watch it heal here:\n\n");
    for (node, agent) in stage.nodes.iter().zip(&stage.agents) {
        let postmaster =
            std::fs::read_to_string(node.data.join("postmaster.pid")).unwrap_or_default();
        let postmaster = postmaster.lines().next().unwrap_or("?");
        let agent = agent.pid().unwrap_or_default();
        text.push_str(&format!(
            "  {}  agent: kill -9 {agent}   PostgreSQL: kill -9 {postmaster}   log: {}\n",
            node.name,
            node.log().display(),
        ));
    }
    if let Some(pid) = stage.etcd.as_ref().and_then(super::process::Process::pid) {
        text.push_str(&format!("  etcd: kill -9 {pid}\n"));
    }
    let mut ctl = stage.ctl.display().to_string();
    for argument in stage.ctl_arguments() {
        ctl.push(' ');
        ctl.push_str(&argument.to_string_lossy());
    }
    text.push_str(&format!(
        "\nAsk it and steer it:\n\n  {ctl} list\n  {ctl} switchover\n\n\
         What happens from now on (Ctrl-C stops everything and removes {}):\n",
        stage.dir.display()
    ));
    say(&text);
}

/// After a failure: the end of each log, because the logs are removed.
pub(super) fn last_words(stage: &Stage) {
    for process in stage.agents.iter().chain(&stage.etcd) {
        let name = &process.name;
        say(&format!(
            "--- last lines of {name}\n{}",
            process.last_words(15)
        ));
    }
}
