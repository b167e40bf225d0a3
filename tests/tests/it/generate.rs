//! `--generate-config` and `--generate-sample-config`: what is written can be used as it is.

use crate::common::{note, noted, secs, stand_in, start_time, text, three};
use pgherd_tests::{Etcd, Kind, Node, TestCluster, process};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Output, Stdio};

/// A password of the replication role that YAML and libpq could misread.
const REPLICATION: &str = "it's: \\ #1";

/// Runs a program as the member's user, in its directory.
fn run(node: &Node, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = node.command(program);
    command.args(args).envs(env.iter().copied());
    command.stdin(Stdio::null());
    process::output(&mut command).unwrap()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

/// A plain PostgreSQL in the member's data directory, as somebody has set it up by hand.
fn plain_postgresql(node: &Node) {
    let (_, port) = node.pg_address();
    let password = node.dir().join("password");
    std::fs::write(&password, &node.target().password).unwrap();
    process::give(&password);
    let data = node.data_dir();
    let data = data.to_str().unwrap();
    let bin = |name: &str| process::pg_bin().join(name);
    let pwfile = format!("--pwfile={}", password.display());
    let words = [
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "scram-sha-256",
        "--locale=C",
        "-N",
        &pwfile,
    ];
    succeeds(&run(node, &bin("initdb"), &words, &[]));
    let conf = format!(
        "\nlisten_addresses = '127.0.0.1, 127.0.0.2'\nport = {port}\nunix_socket_directories = '{}'\n\
         max_connections = 70\nwork_mem = '7MB'\nshared_buffers = '16MB'\narchive_mode = on\narchive_command = '/bin/true'\n",
        node.dir().display()
    );
    append(&node.data_dir().join("postgresql.conf"), &conf);
    let rules = "host all all 127.0.0.0/8 scram-sha-256\n\
                 # the other members\nhost  replication  follower  127.0.0.0/8  scram-sha-256\n";
    append(&node.data_dir().join("pg_hba.conf"), rules);
    let log = node.dir().join("postgresql.log");
    let log = log.to_str().unwrap();
    succeeds(&run(
        node,
        &bin("pg_ctl"),
        &["-D", data, "-l", log, "-w", "start"],
        &[],
    ));
}

fn append(file: &Path, more: &str) {
    let mut whole = std::fs::read_to_string(file).unwrap();
    whole.push_str(more);
    std::fs::write(file, whole).unwrap();
}

/// Variables that say what a running PostgreSQL does not know.
fn variables(etcd: &Etcd, cluster: &TestCluster, node: &Node) -> Vec<(String, String)> {
    let (rest, pg) = (node.rest_address().1, node.pg_address().1);
    let pairs = [
        ("SCOPE", cluster.scope().to_owned()),
        ("NAME", node.name().to_owned()),
        ("ETCD3_HOSTS", etcd.hosts().join(",")),
        ("RESTAPI_LISTEN", format!("0.0.0.0:{rest}")),
        ("RESTAPI_CONNECT_ADDRESS", format!("127.0.0.2:{rest}")),
        ("POSTGRESQL_LISTEN", format!("127.0.0.1,127.0.0.2:{pg}")),
        ("POSTGRESQL_CONNECT_ADDRESS", format!("127.0.0.2:{pg}")),
        (
            "POSTGRESQL_PGPASS",
            node.dir().join("pgpass").display().to_string(),
        ),
    ];
    pairs
        .map(|(name, value)| (format!("PATRONI_{name}"), value))
        .into()
}

/// Pairs as a command wants them.
fn borrowed(env: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = env.iter();
    pairs.map(|(n, v)| (n.as_str(), v.as_str())).collect()
}

/// From a plain server to a cluster of two, without a restart and without losing anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_postgresql_becomes_a_cluster() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(2);
    let mut cluster = TestCluster::new(&etcd, &options);
    let node = cluster.node("n1");
    let file = node.yaml();
    std::fs::remove_file(&file).unwrap();
    plain_postgresql(node);
    note(node, "before").await;
    let role = format!(
        "create role follower login replication password '{}'",
        REPLICATION.replace('\'', "''")
    );
    let client = pgherd_tests::sql::connect(&node.target(), secs(5)).await;
    client.unwrap().batch_execute(&role).await.unwrap();
    let started = start_time(node).await;
    generated(&etcd, &cluster);

    node.start();
    cluster.wait_streaming(0, secs(40)).await;
    let node = cluster.node("n1");
    assert_eq!(noted(node, "before").await, Ok(1));
    assert_eq!(start_time(node).await, started, "it was not restarted");

    // The second member: the same file, with what differs.
    std::fs::copy(&file, cluster.node("n2").yaml()).unwrap();
    let data = cluster.node("n2").data_dir();
    let mut words = vec!["/usr/bin/env".to_owned()];
    let different = variables(&etcd, &cluster, cluster.node("n2"));
    let different = different.iter();
    words.extend(different.map(|(name, value)| format!("{name}={value}")));
    words.push(format!("PATRONI_POSTGRESQL_DATA_DIR={}", data.display()));
    let program = cluster.dir().join("pgherd");
    words.extend([program.display().to_string(), "agent".to_owned()]);
    cluster.node_mut("n2").set_kind(Kind::Command(words));
    cluster.node("n2").start();
    cluster.wait_whole(secs(60)).await;
    assert_eq!(noted(cluster.node("n2"), "before").await, Ok(1));
    assert_eq!(start_time(cluster.node("n1")).await, started);
}

/// Generates the file of n1, and looks at it from all sides.
fn generated(etcd: &Etcd, cluster: &TestCluster) {
    let (node, program) = (cluster.node("n1"), cluster.dir().join("pgherd"));
    let (file, password) = (node.yaml(), node.target().password);
    let mut env = variables(etcd, cluster, node);
    env.push(("PGPASSWORD".to_owned(), password.clone()));
    env.push((
        "PATRONI_REPLICATION_PASSWORD".to_owned(),
        REPLICATION.to_owned(),
    ));
    let env = borrowed(&env);
    let dsn = format!("host=127.0.0.1 port={} user=postgres", node.pg_address().1);
    let name = file.to_str().unwrap();
    let args = ["agent", "--generate-config", "--dsn", &dsn, name];
    let output = run(node, &program, &args, &env);
    succeeds(&output);
    let said = text(&output);
    assert_eq!(said.lines().count(), 1, "nothing is left to do: {said}");
    let written = std::fs::read_to_string(&file).unwrap();
    for (line, why) in [
        ("max_connections: 70", "shared"),
        ("work_mem: 7MB", "shared"),
        ("archive_command: /bin/true", "this node's"),
        ("wal_log_hints: \"on\"", "for pg_rewind"),
        (
            "- host  replication  follower  127.0.0.0/8  scram-sha-256",
            "pg_hba, as it is",
        ),
        ("username: follower", "found"),
    ] {
        assert!(written.contains(line), "{line} ({why}):\n{written}");
    }
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = run(node, &program, &args, &env);
    assert_eq!(again.status.code(), Some(1));
    let refused = "is there already: it is not overwritten";
    assert!(text(&again).contains(refused), "{}", text(&again));
    let shown = run(node, &program, &args[..4], &env);
    succeeds(&shown);
    let shown = text(&shown);
    assert!(shown.contains("password: \"#FIXME\""), "{shown}");
    assert!(
        !shown.contains(&password) && !shown.contains("it's"),
        "{shown}"
    );
    good(node, &["agent", "--validate-config", "-i", name]);
}

/// Validation is silent.
fn good(node: &Node, args: &[&str]) {
    let program = node.dir().with_file_name("pgherd");
    let output = run(node, &program, args, &[]);
    assert_eq!(
        (output.status.code(), text(&output)),
        (Some(0), String::new())
    );
}

/// What is still to be said is named, by the generator and by validation.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_names_what_is_to_be_filled_in() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::new(&etcd, &options);
    let (node, program) = (cluster.node("n1"), cluster.dir().join("pgherd"));
    let file = node.dir().join("sample.yml");
    let file = file.to_str().unwrap();
    let sample = "--generate-sample-config";
    let output = run(node, &program, &["agent", sample, file], &[]);
    succeeds(&output);
    let said = text(&output);
    let open = [
        "scope",
        "etcd3.hosts",
        "postgresql.authentication.superuser.password",
    ];
    for key in open {
        assert!(said.contains(key), "{key}: {said}");
    }
    let output = run(
        node,
        &program,
        &["agent", "--validate-config", "-i", file],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    for key in open {
        let words = format!("{key} #FIXME");
        assert!(text(&output).contains(&words), "{words}: {}", text(&output));
    }
    let mut env = variables(&etcd, &cluster, node);
    let data = node.data_dir().display().to_string();
    env.push(("PATRONI_POSTGRESQL_DATA_DIR".into(), data));
    for role in ["SUPERUSER", "REPLICATION"] {
        env.push((format!("PATRONI_{role}_PASSWORD"), "one of mine".to_owned()));
    }
    let filled = node.dir().join("filled.yml");
    let filled = filled.to_str().unwrap();
    succeeds(&run(
        node,
        &program,
        &["agent", sample, filled],
        &borrowed(&env),
    ));
    good(node, &["agent", "--validate-config", filled]);
}

/// Standard output, which may be anybody's, has no logins of addresses either.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_an_address_is_not_printed() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::new(&etcd, &options);
    let (node, program) = (cluster.node("n1"), cluster.dir().join("pgherd"));
    let sample = ["agent", "--generate-sample-config"];
    for (variable, value, shown) in [
        ("URL", "https://u:s3cret@h:2379", "https://#FIXME@h:2379"),
        (
            "HOSTS",
            "a:2379,http://u:s3cret@b:2379",
            "http://#FIXME@b:2379",
        ),
    ] {
        let name = format!("PATRONI_ETCD3_{variable}");
        let output = run(node, &program, &sample, &[(&name, value)]);
        succeeds(&output);
        let said = text(&output);
        assert!(!said.contains("s3cret"), "{said}");
        assert!(said.contains(shown), "{shown}: {said}");
        let key = format!("etcd3.{}", variable.to_lowercase());
        let hint = said
            .lines()
            .find(|line| line.starts_with("- put your own values"));
        assert!(
            hint.is_some_and(|hint| hint.contains(&key)),
            "{key}: {said}"
        );
    }
}

/// A server that cannot be read: what to do is told, the password is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::new(&etcd, &options);
    let (node, program) = (cluster.node("n1"), cluster.dir().join("pgherd"));
    let port = node.pg_address().1;
    let dsn = format!("host=127.0.0.1 port={port} user=postgres password=s3cret");
    let output = run(
        node,
        &program,
        &["agent", "--generate-config", "--dsn", &dsn],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains("cannot be read") && said.contains("--dsn"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
    // One that is half understood would be looked for elsewhere.
    let dsn = format!("hots=127.0.0.1 port={port} password=s3cret");
    let args = ["agent", "--generate-config", "--dsn", &dsn];
    let output = run(node, &program, &args, &[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said, "Error: --dsn: character 1: libpq knows no such key\n");
}

/// A program at a terminal, and who types there.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    /// What it has shown so far.
    seen: PathBuf,
}

impl Terminal {
    /// Runs a line of the shell as the member's user.
    fn run(node: &Node, line: &str) -> Terminal {
        let seen = node.dir().join("terminal");
        // It gives the program a terminal, and types there what comes by the pipe.
        let mut command = node.command(Path::new("/usr/bin/script"));
        command.args(["-qefc", line]).arg(&seen);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = process::spawn(&mut command).unwrap();
        let keyboard = child.stdin.take().unwrap();
        Terminal {
            child,
            keyboard,
            seen,
        }
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(&self.seen).unwrap_or_default()
    }

    async fn shows(&self, words: &str) {
        pgherd_tests::wait_for(words, secs(20), async || {
            let shown = self.shown();
            shown.contains(words).then_some(()).ok_or(shown)
        })
        .await;
    }

    /// Everything that it has shown when the program has ended.
    async fn end(mut self) -> String {
        let seen = self.seen.clone();
        let shown = || std::fs::read_to_string(&seen).unwrap_or_default();
        pgherd_tests::wait_for("the end", secs(20), async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err(shown()),
        })
        .await;
        shown()
    }
}

/// Passwords are asked for at a terminal, and what is typed does not show.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_and_not_shown() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::new(&etcd, &options);
    let (node, program) = (cluster.node("n1"), cluster.dir().join("pgherd"));
    let file = node.dir().join("sample.yml");
    let line = format!(
        "{} agent --generate-sample-config {}",
        program.display(),
        file.display()
    );
    let mut terminal = Terminal::run(node, &line);
    for (question, answer) in [
        ("superuser role postgres", "s3cret-1"),
        ("role replicator", "s3cret-2"),
    ] {
        terminal.shows(question).await;
        writeln!(terminal.keyboard, "{answer}").unwrap();
    }
    let shown = terminal.end().await;
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains("password: s3cret-1"), "{written}");
    assert!(written.contains("password: s3cret-2"), "{written}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

/// Ctrl-C at a question ends it, no file is made, and the terminal shows again what is typed.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_leaves_the_terminal_as_it_was() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::new(&etcd, &options);
    let (node, program) = (cluster.node("n1"), cluster.dir().join("pgherd"));
    let file = node.dir().join("sample.yml");
    let line = format!(
        "{} agent --generate-sample-config {}; echo status=$?; stty -a",
        program.display(),
        file.display()
    );
    let mut terminal = Terminal::run(node, &line);
    terminal.shows("superuser role postgres").await;
    terminal.keyboard.write_all(b"half of s3cret\x03").unwrap();
    let shown = terminal.end().await;
    assert!(
        shown.contains("Error: interrupted: nothing was written"),
        "{shown}"
    );
    assert!(
        shown.contains("status=1") && !shown.contains("s3cret"),
        "{shown}"
    );
    assert!(shown.contains("eol = <undef>"), "{shown}");
    for mode in ["echo", "isig", "icanon"] {
        assert!(
            shown.split_whitespace().any(|word| word == mode),
            "{mode}: {shown}"
        );
    }
    assert!(!file.exists());
}
