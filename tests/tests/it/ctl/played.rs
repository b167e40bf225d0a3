//! `pgherd ctl` with members that only play their part: what genuine ones do seldom, or not in the time of a test.

use super::{called, finish};
use crate::common::{secs, stand_in, text, three};
use pgherd_tests::{Etcd, TestCluster, Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A REST API that answers what it is told to.
struct Played {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Played {
    /// `answer` gets `GET /patroni` and the like.
    fn start(answer: impl FnMut(&str) -> (u16, String) + Send + 'static) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = asked.clone();
        let mut answer = answer;
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &notes, &mut answer);
            }
        });
        Played { address, asked }
    }

    fn asked(&self, what: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| *line == what).count()
    }
}

/// One request, read to its end: else the answer would be lost with the connection.
fn serve(
    stream: TcpStream,
    notes: &Mutex<Vec<String>>,
    answer: &mut impl FnMut(&str) -> (u16, String),
) {
    stream.set_read_timeout(Some(secs(10))).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let words: Vec<&str> = first.split(' ').collect();
    let what = format!("{} {}", words[0], words[1]);
    let (status, body) = answer(&what);
    notes.lock().unwrap().push(what);
    let answer = format!(
        "HTTP/1.1 {status} Played\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = reader.into_inner().write_all(answer.as_bytes());
}

/// A cluster whose members are keys only; `n1` leads.
async fn keys(etcd: &Etcd, members: &[(&str, SocketAddr, Value)]) -> TestCluster {
    let cluster = TestCluster::new(etcd, &three());
    for (name, api, more) in members {
        let role = if *name == "n1" { "primary" } else { "replica" };
        let mut member = json!({
            "conn_url": "postgres://127.0.0.1:5432/postgres",
            "api_url": format!("http://{api}/patroni"),
            "state": "running",
            "role": role,
            "version": "4.1.5",
        });
        for (key, value) in more.as_object().unwrap() {
            member[key] = value.clone();
        }
        let key = cluster.key(&format!("members/{name}"));
        etcd.put(&key, &member.to_string()).await;
    }
    etcd.put(&cluster.key("leader"), "n1").await;
    let config = json!({"ttl": 20, "loop_wait": 1});
    etcd.put(&cluster.key("config"), &config.to_string()).await;
    cluster
}

/// Under our own name, or as `patronictl`, with what is typed.
fn run(cluster: &TestCluster, name: &str, typed: &str, args: &[&str]) -> Output {
    let node = &cluster.nodes()[0];
    let mut command = node.command(&called(cluster, name));
    if name == "pgherd" {
        command.arg("ctl");
    }
    command.arg("-c").arg(node.yaml());
    command.args(args.iter().map(|a| a.replace("{scope}", cluster.scope())));
    finish(command, typed)
}

/// A port whose queue of connections is full: the system drops whatever comes, as a network does that is cut
/// without a word.
async fn black_hole() -> (
    SocketAddr,
    Vec<tokio::net::TcpStream>,
    tokio::net::TcpListener,
) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(500), connect).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => return (address, waiting, listener),
        }
    }
    panic!("the queue of {address} does not fill");
}

/// What is asked of nobody needs nothing.
#[test]
fn the_own_version_needs_no_configuration() {
    let program = pgherd_tests::binary::pgherd();
    let ctl = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["ctl", "-c", "/nonexistent"]).args(args);
        finish(command, "")
    };
    let version = ctl(&["version"]);
    assert_eq!(version.status.code(), Some(0), "{}", text(&version));
    assert!(text(&version).starts_with("pgherd version "));
    let other = ctl(&["version", "x"]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other));
    for args in [
        vec!["list", "--group", "0"],
        vec!["--group", "1", "version"],
        vec!["remove", "x", "--group=2"],
    ] {
        let refused = ctl(&args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(
            text(&refused).contains("Error: Citus is not supported"),
            "{args:?}: {}",
            text(&refused)
        );
    }
}

/// The network to the leader is cut without a word: nothing was sent, so the request is written to etcd.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_goes_past_a_leader_that_does_not_say_a_word() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let (address, _waiting, _listener) = black_hole().await;
    let members = [("n1", address, json!({})), ("n2", address, json!({}))];
    let cluster = keys(&etcd, &members).await;
    let begun = Instant::now();
    let done = run(
        &cluster,
        "pgherd",
        "",
        &["switchover", "--candidate", "n2", "--force"],
    );
    let said = text(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(
        said.contains("Could not switchover using Patroni api"),
        "{said}"
    );
    assert!(begun.elapsed() < secs(25), "{:?}", begun.elapsed());
    let written = etcd.get(&cluster.key("failover")).await.unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        (&written["leader"], &written["member"]),
        (&json!("n1"), &json!("n2"))
    );
}

/// What is between the request and the copy, and between the copy and a running standby, is no end.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_waited_for_to_its_end() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut states = ["stopping", "crashed", "creating replica", "starting"].into_iter();
    let played = Played::start(move |what| match what {
        "POST /reinitialize" => (200, "reinitialize started".to_owned()),
        "GET /patroni" => {
            let state = states.next().unwrap_or("running");
            (200, json!({"state": state}).to_string())
        }
        other => panic!("{other}"),
    });
    let members = [
        ("n1", played.address, json!({})),
        ("n2", played.address, json!({})),
    ];
    let cluster = keys(&etcd, &members).await;
    let done = run(
        &cluster,
        "pgherd",
        "",
        &["reinit", "{scope}", "n2", "--force", "--wait"],
    );
    let said = text(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(
        said.ends_with("Reinitialize is completed on: n2\n"),
        "{said}"
    );
    assert_eq!(played.asked("GET /patroni"), 5, "{said}");

    // With force nobody is asked which one is meant.
    let args = ["reinit", "{scope}", "--force"];
    let refused = run(&cluster, "pgherd", "n2\n", &args);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(
        !text(&refused).contains("Which member"),
        "{}",
        text(&refused)
    );
    let nothing = run(&cluster, "patronictl", "n2\n", &args);
    assert_eq!(nothing.status.code(), Some(0), "{}", text(&nothing));
    assert!(
        !text(&nothing).contains("Which member"),
        "{}",
        text(&nothing)
    );
    assert_eq!(played.asked("POST /reinitialize"), 1);
}

/// What cannot go well is said before anything is done.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_judged_before_it_begins() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let old = Played::start(|what| match what {
        "GET /pgherd/explain" => (200, json!({"ladder": []}).to_string()),
        _ => (202, "pgherd 9".to_owned()),
    });
    let cluster = keys(&etcd, &[("n1", old.address, json!({}))]).await;
    let ctl = |typed: &str, more: &[&str]| {
        let args = [&["upgrade-agent", "{scope}"], more].concat();
        let output = run(&cluster, "pgherd", typed, &args);
        (output.status.code(), text(&output))
    };
    for wait in ["NaN", "-1", "0"] {
        let (code, said) = ctl("", &["--wait", wait]);
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.contains("Cluster: "), "{said}");
    }
    let (code, said) = ctl("n\n", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("upgrade the agents of members n1? [y/N]: "),
        "{said}"
    );
    assert!(said.contains("Error: Aborted upgrade\n"), "{said}");
    let (code, said) = ctl("", &["--force"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("Failed: upgrade for member n1: its agent is too old"),
        "{said}"
    );
    assert_eq!(old.asked("POST /pgherd/upgrade"), 0);
}

/// Who has not noticed is told of, instead of the success.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_was_not_noticed_is_no_success() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let played = Played::start(|_| (200, "{}".to_owned()));
    let members = [
        ("n1", played.address, json!({"pause": true})),
        ("n2", played.address, json!({})),
    ];
    let cluster = keys(&etcd, &members).await;
    let success = "Success: cluster management is paused";
    let late = run(&cluster, "pgherd", "", &["pause", "--wait"]);
    let said = text(&late);
    assert_eq!(late.status.code(), Some(1), "{said}");
    assert!(
        said.ends_with("\nn2 members didn't recognized pause state after 1 seconds\n"),
        "{said}"
    );
    assert!(!said.contains(success), "{said}");
    // For patronictl a member that writes nothing is one that is gone.
    let gone = run(&cluster, "patronictl", "", &["pause", "--wait"]);
    assert_eq!(gone.status.code(), Some(0), "{}", text(&gone));
    assert!(text(&gone).contains(success), "{}", text(&gone));
}

/// Restarts: nobody waits for one, and at a time each member judges for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_restart_is_judged_when_it_is_due() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let played = Played::start(|_| (202, "Restart scheduled".to_owned()));
    let cluster = keys(&etcd, &[("n1", played.address, json!({}))]).await;
    let now = run(
        &cluster,
        "pgherd",
        "",
        &["restart", "{scope}", "--force", "--pending"],
    );
    assert_eq!(now.status.code(), Some(0), "{}", text(&now));
    assert!(
        text(&now).contains("No restart is pending on any of these members"),
        "{}",
        text(&now)
    );
    assert_eq!(played.asked("POST /restart"), 0);
    let at = ["--scheduled", "2130-01-01T00:00Z", "--pending", "--force"];
    let later = run(
        &cluster,
        "pgherd",
        "",
        &[&["restart", "{scope}"], &at[..]].concat(),
    );
    assert_eq!(later.status.code(), Some(0), "{}", text(&later));
    assert_eq!(played.asked("POST /restart"), 1, "{}", text(&later));
}

/// Restarts one after the other: where a standby would have less than its primary, whoever must come later is left alone
/// after a failure. Where the order does not matter, it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_failed_stops_those_that_must_come_later() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let play = |status: u16| Played::start(move |_| (status, "restart failed".to_owned()));
    let (good, bad) = (play(200), play(503));
    // Nobody is there.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (good_at, bad_at) = (good.address, bad.address);
    let more = ("max_connections", "90", "100");
    let less = ("max_connections", "100", "90");
    let other = ("shared_buffers", "128MB", "256MB");
    let first = |who: &str| format!("(a standby must not have less than its primary: {who} first)");
    for (reason, at, refused, left) in [
        (
            more,
            [good_at, bad_at, good_at],
            (1, 0, 1),
            Some(("n1", "n2")),
        ),
        (
            more,
            [good_at, gone, good_at],
            (1, 1, 1),
            Some(("n1", "n2")),
        ),
        (
            less,
            [bad_at, good_at, good_at],
            (1, 0, 0),
            Some(("n2, n3", "n1")),
        ),
        (other, [good_at, bad_at, good_at], (1, 0, 2), None),
    ] {
        let (name, old, new) = reason;
        let reason = json!({"pending_restart": true, "pending_restart_reason":
            {name: {"old_value": old, "new_value": new}}});
        let members: Vec<_> = ["n1", "n2", "n3"]
            .into_iter()
            .zip(at)
            .map(|(name, at)| (name, at, reason.clone()))
            .collect();
        let cluster = keys(&etcd, &members).await;
        let (ours, theirs, restarted) = refused;
        for (program, code) in [("pgherd", ours), ("patronictl", theirs)] {
            let before = good.asked("POST /restart");
            let done = run(&cluster, program, "", &["restart", "{scope}", "--force"]);
            let said = text(&done);
            assert_eq!(done.status.code(), Some(code), "{said}");
            assert_eq!(good.asked("POST /restart") - before, restarted, "{said}");
            let told = String::from_utf8_lossy(&done.stderr);
            let told = told
                .lines()
                .find(|line| line.starts_with("Left as they are: "));
            let wanted =
                left.map(|(left, failed)| format!("Left as they are: {left} {}", first(failed)));
            assert_eq!(told.map(str::to_owned), wanted, "{said}");
        }
    }
}

/// What PostgreSQL refused is only known by a member of ours that answers.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_tell_what_was_refused_is_named() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let patroni = Played::start(|_| {
        let status = json!({"state": "running", "patroni": {"version": "4.1.5"}});
        (200, status.to_string())
    });
    for (at, why) in [
        (gone, "its key in etcd tells about pending restarts, and"),
        (patroni.address, "n1: runs Patroni 4.1.5, not pgherd:"),
    ] {
        let cluster = keys(&etcd, &[("n1", at, json!({}))]).await;
        let told = run(&cluster, "pgherd", "", &["explain-config", "work_mem"]);
        assert_eq!(told.status.code(), Some(0), "{}", text(&told));
        let line = format!("{why} what its PostgreSQL refused is not known\n");
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(said.ends_with(&line), "{said}");
        let unknown = "whether the agent has loaded it is not known\n";
        assert!(said.contains(unknown), "{said}");
    }
}

/// `edit-config` with this script as editor; its output and what the temporary directory holds then.
fn edited(cluster: &TestCluster, script: &str) -> (Output, Vec<std::path::PathBuf>) {
    let node = &cluster.nodes()[0];
    let editor = cluster.dir().join("editor");
    std::fs::write(&editor, script).unwrap();
    let temporary = node.dir().join("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    pgherd_tests::process::give(&temporary);
    let mut command = node.command(&called(cluster, "patronictl"));
    command
        .env("EDITOR", format!("sh {}", editor.display()))
        .env("TMPDIR", &temporary)
        .arg("-c")
        .arg(node.yaml())
        .args(["edit-config", "--force"]);
    let output = finish(command, "");
    let left = std::fs::read_dir(&temporary).unwrap();
    (output, left.map(|entry| entry.unwrap().path()).collect())
}

/// Ctrl-C goes to everybody at the terminal; a slip in the text costs no work.
#[tokio::test(flavor = "multi_thread")]
async fn work_in_an_editor_is_not_lost() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = keys(&etcd, &[]).await;
    let keys = r#"
        p=$PPID
        while [ "$p" -gt 1 ]; do
            name=$(cat /proc/$p/comm)
            kill -INT $p
            kill -QUIT $p
            [ "$name" = patronictl ] && break
            p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status)
        done
        sed -i 's/ttl: 20/ttl: 44/' "$1"
    "#;
    let (output, left) = edited(&cluster, keys);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.ends_with("Configuration changed\n"), "{said}");
    assert!(left.is_empty(), "{left:?}");
    let stored = etcd.get(&cluster.key("config")).await.unwrap();
    assert!(stored.contains("44"), "{stored}");

    let (output, left) = edited(&cluster, "echo 'loop_wait: [' >>\"$1\"");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(left.len(), 1, "{said}");
    let place = left[0].display().to_string();
    assert!(said.contains(&format!("is kept in {place}")), "{said}");
    let kept = std::fs::read_to_string(&left[0]).unwrap();
    assert!(kept.ends_with("loop_wait: [\n"), "{kept}");
    assert_eq!(etcd.get(&cluster.key("config")).await.unwrap(), stored);
}

/// Of a time when there was one endpoint for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_knows_no_switchover_is_asked_for_a_failover() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let old = Played::start(|what| match what {
        "POST /failover" => (200, "Successfully failed over to \"n2\"".to_owned()),
        _ => (
            501,
            "501 - Server does not support this operation.".to_owned(),
        ),
    });
    let members = [
        ("n1", old.address, json!({})),
        ("n2", old.address, json!({})),
    ];
    let cluster = keys(&etcd, &members).await;
    let args = ["switchover", "--candidate", "n2", "--force"];
    let done = run(&cluster, "pgherd", "", &args);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(
        said.contains(" Successfully failed over to \"n2\"\n"),
        "{said}"
    );
    assert_eq!(old.asked("POST /switchover"), 1, "{said}");
    assert_eq!(old.asked("POST /failover"), 1, "{said}");
}

/// Rows may be lost by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_an_asynchronous_member_is_asked_about() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let played = Played::start(|_| (200, "Successfully failed over to \"n3\"".to_owned()));
    let members = ["n1", "n2", "n3"].map(|name| (name, played.address, json!({})));
    let cluster = keys(&etcd, &members).await;
    let config = json!({"loop_wait": 1, "synchronous_mode": true});
    etcd.put(&cluster.key("config"), &config.to_string()).await;
    let sync = json!({"leader": "n1", "quorum": 0, "sync_standby": "n2"});
    etcd.put(&cluster.key("sync"), &sync.to_string()).await;
    let question = "Are you sure you want to failover to the asynchronous node n3?";
    let failover = |candidate: &str, typed: &str| {
        let args = ["failover", "--candidate", candidate];
        let done = run(&cluster, "patronictl", typed, &args);
        (done.status.code(), text(&done))
    };
    let (code, said) = failover("n3", "n\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(question), "{said}");
    assert!(said.ends_with("Error: Aborting failover\n"), "{said}");
    assert_eq!(played.asked("POST /failover"), 0);
    let (code, said) = failover("n3", "y\ny\n");
    assert_eq!(
        (code, played.asked("POST /failover")),
        (Some(0), 1),
        "{said}"
    );
    let (code, said) = failover("n2", "y\n");
    assert_eq!(
        (code, played.asked("POST /failover")),
        (Some(0), 2),
        "{said}"
    );
    assert!(!said.contains("asynchronous"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_needs_a_member_that_can_be_reached() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let played = Played::start(|_| (200, "{}".to_owned()));
    let members = [("n1", nobody, json!({})), ("n2", nobody, json!({}))];
    let cluster = keys(&etcd, &members).await;
    let done = run(&cluster, "patronictl", "", &["pause"]);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    let end = "Error: Can not find accessible cluster member\n";
    assert!(said.ends_with(end), "{said}");
    // Any of them will do; the leader is asked first.
    let members = [("n1", nobody, json!({})), ("n2", played.address, json!({}))];
    let cluster = keys(&etcd, &members).await;
    let done = run(&cluster, "patronictl", "", &["pause"]);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(
        said.contains("Success: cluster management is paused\n"),
        "{said}"
    );
    assert_eq!(played.asked("PATCH /config"), 1);
}

/// Where the configuration and the lock service are: on the command line, else in the environment.
#[tokio::test(flavor = "multi_thread")]
async fn file_and_lock_service_are_named_by_variables_too() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let address = "127.0.0.1:1".parse().unwrap();
    let cluster = keys(&etcd, &[("n1", address, json!({}))]).await;
    let node = &cluster.nodes()[0];
    let ctl = |variables: &[(&str, String)], args: &[&str]| {
        let mut command = node.command(&called(&cluster, "patronictl"));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.args(args);
        let done = finish(command, "");
        (done.status.code(), text(&done))
    };
    let file = node.yaml().display().to_string();
    let there = (Some(0), "host=127.0.0.1 port=5432\n".to_owned());
    let named = [("PATRONICTL_CONFIG_FILE", file.clone())];
    assert_eq!(ctl(&named, &["dsn", "-m", "n1"]), there);
    let args = ["dsn", cluster.scope(), "-m", "n1"];
    let namespace = cluster
        .key("")
        .replace(&format!("/{}/", cluster.scope()), "");
    let url = format!("etcd3://{}{namespace}", etcd.hosts()[0]);
    assert_eq!(ctl(&[("DCS_URL", url.clone())], &args), there);
    // The command line wins.
    let elsewhere = [("DCS_URL", "etcd3://127.0.0.1:1/x".to_owned())];
    assert_eq!(
        ctl(
            &elsewhere,
            &["-d", &url, "dsn", cluster.scope(), "-m", "n1"]
        ),
        there
    );
    let nothing = [("PATRONICTL_CONFIG_FILE", "/nonexistent".to_owned())];
    assert_eq!(ctl(&nothing, &["-c", &file, "dsn", "-m", "n1"]), there);
}
