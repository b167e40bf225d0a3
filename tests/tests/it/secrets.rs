//! No password where others can see it: in no log, in no file that they may read, in no argument list of
//! any program that an agent runs while a cluster forms, copies, rewinds and serves.

use crate::common::secs;
use crate::rejoin::{diverge, lenient};
use pgherd_tests::{Etcd, TestCluster, json, process};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// How a text reads without the quoting of SQL, connection strings, password files, shells and URLs: each
/// of them only doubles or adds these characters.
fn unquoted(text: &str) -> String {
    let mut plain = text.to_owned();
    for (code, character) in [("%20", " "), ("%27", "'"), ("%5C", "\\"), ("%5c", "\\")] {
        plain = plain.replace(code, character);
    }
    plain.replace('+', " ").replace(['\'', '"', '\\'], "")
}

/// Whether one of the cluster's passwords (`super pass'\word SCOPE`) is in a text, quoted or not.
fn betrays(text: &str, cluster: &TestCluster) -> bool {
    unquoted(text).contains(&format!("password {}", cluster.scope()))
}

/// A `bin_dir` whose programs write down their arguments before they become PostgreSQL's own: no program
/// is too short-lived to be seen.
fn talkative(cluster: &TestCluster) -> (PathBuf, PathBuf) {
    let (dir, file) = (cluster.dir().join("bin"), cluster.dir().join("arguments"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&file, "").unwrap();
    process::give(&file);
    for program in std::fs::read_dir(process::pg_bin()).unwrap() {
        let (name, program) = program
            .map(|entry| (entry.file_name(), entry.path()))
            .unwrap();
        let script = format!(
            "#!/bin/sh\nprintf '%s ' \"$0\" \"$@\" >>'{file}'\necho >>'{file}'\nexec '{program}' \"$@\"\n",
            file = file.display(),
            program = program.display()
        );
        let wrapper = dir.join(name);
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    (dir, file)
}

/// Text of every file below `dir` that users other than its owner can read.
fn readable(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut paths = vec![dir.to_path_buf()];
    while let Some(path) = paths.pop() {
        // PostgreSQL's temporary files come and go.
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = meta.permissions().mode();
        if meta.is_dir() && mode & 0o005 != 0 {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if meta.is_file() && mode & 0o004 != 0 && meta.len() <= 4 << 20 {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.push((path, text));
        }
    }
    found
}

/// The detector itself: every way in which pgherd quotes.
#[test]
fn quoted_passwords_are_recognised() {
    let etcd_free = |text: &str| unquoted(text).contains("password t-1");
    for quoted in [
        "super pass'\\word t-1",
        "alter role postgres password 'super pass''\\word t-1'",
        "E'super pass\\'\\\\word t-1'",
        "password='super pass\\'\\\\word t-1' user=x",
        "host:5432:*:postgres:super pass'\\\\word t-1",
        "postgres://u:super%20pass%27%5Cword%20t-1@h/postgres",
        "'super pass'\\''\\word t-1'",
    ] {
        assert!(etcd_free(quoted), "{quoted}");
    }
    assert!(!etcd_free("passfile=/x/pgpass t-1"));
}

/// initdb, the first start, copies of members, a rewind, a switchover's worth of restarts: then logs,
/// files and every argument list are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_secret() {
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &lenient());
    let (bin, arguments) = talkative(&cluster);
    for name in ["n1", "n2", "n3"] {
        let patch = json!({"postgresql": {"bin_dir": bin}});
        cluster.node_mut(name).change_config(&patch);
    }
    cluster.start_all();
    cluster.wait_whole(secs(60)).await;
    let (old, _, _) = diverge(&cluster).await;
    old.start();
    cluster.wait_whole(secs(60)).await;

    let arguments = std::fs::read_to_string(arguments).unwrap();
    for program in ["initdb", "pg_basebackup", "pg_rewind", "postgres"] {
        let word = format!("/{program} ");
        assert!(
            arguments.contains(&word),
            "{program} never ran:\n{arguments}"
        );
    }
    for line in arguments.lines() {
        assert!(!betrays(line, &cluster), "a password in: {line}");
    }
    for process in process::of_dir(cluster.dir()) {
        let line = &process.cmdline;
        assert!(!betrays(line, &cluster), "a password in: {line}");
    }
    for (path, text) in readable(cluster.dir()) {
        assert!(
            !betrays(&text, &cluster),
            "a password in {}",
            path.display()
        );
    }
    for node in cluster.nodes() {
        let log = node.log();
        let line = log.lines().find(|line| betrays(line, &cluster));
        assert_eq!(line, None, "a password in the log of {}", node.name());
        let journal = std::fs::read_to_string(node.dir().join("data.pgherd-journal")).unwrap();
        let line = journal.lines().find(|line| betrays(line, &cluster));
        assert_eq!(line, None, "a password in the journal of {}", node.name());
    }
}
