//! Killing a real PostgreSQL: nothing acknowledges a commit afterwards, nothing is left, and
//! everything acknowledged is there after the next start.
//!
//! The clients speak PostgreSQL's protocol (version 3.0, "Message Formats") over its Unix socket,
//! just enough of it to send commits without waiting for answers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use pgherd_ha::fence::Plan;
use pgherd_model::Span;
use rustix::event::PollFlags;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use support::{PATIENCE, Running, ends_within, guard_program, now, pidfd_of, ready, until};
use tempfile::TempDir;

/// A primary of its own, without TCP.
struct Primary {
    dir: TempDir,
    postmaster: Running,
}

impl Primary {
    fn start() -> Primary {
        let dir = Primary::made();
        let postmaster = Primary::launch(dir.path());
        Primary { dir, postmaster }
    }

    /// Under a name that nobody knows.
    fn start_renamed() -> Primary {
        let dir = Primary::made();
        let server = dir.path().join("server-of-our-own");
        std::fs::copy(program("postgres"), &server).unwrap();
        let postmaster = Primary::launch_as(&server, dir.path());
        Primary { dir, postmaster }
    }

    fn made() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), mode).unwrap();
        let initdb = as_postgres(&program("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .arg(dir.path().join("data"))
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{initdb:?}");
        dir
    }

    fn launch(dir: &Path) -> Running {
        Primary::launch_as(&program("postgres"), dir)
    }

    fn launch_as(server: &Path, dir: &Path) -> Running {
        let child = as_postgres(server)
            .arg("-D")
            .arg(dir.join("data"))
            .arg("-k")
            .arg(dir)
            .args(["-c", "listen_addresses="])
            .args([
                "-c",
                "archive_mode=on",
                "-c",
                "archive_command=sleep 1000; :",
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("PostgreSQL answers", || Client::connect(dir).is_ok());
        Running(child)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn client(&self) -> Client {
        Client::connect(self.dir.path()).unwrap()
    }

    /// Starts it again and gives the ids that are in the table.
    fn rows_after_restart(&mut self) -> Vec<String> {
        self.postmaster.0.wait().unwrap();
        self.postmaster = Primary::launch(self.dir.path());
        let mut client = self.client();
        client.send("select id from t order by id").unwrap();
        client.rows().unwrap()
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        let _ = pgherd_guard::kill(&self.data(), &[], Span::from_secs(5), now);
    }
}

fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    versions.pop().unwrap()
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        let (user, group) = postgres_user();
        command.uid(user).gid(group);
    }
    command.current_dir("/").stdin(Stdio::null()).env_clear();
    command
}

fn postgres_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// One connection.
struct Client {
    socket: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    fn connect(dir: &Path) -> io::Result<Client> {
        let socket = UnixStream::connect(dir.join(".s.PGSQL.5432"))?;
        let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let length = u32::try_from(parameters.len() + 4).unwrap();
        let mut startup = length.to_be_bytes().to_vec();
        startup.extend_from_slice(parameters);
        (&socket).write_all(&startup)?;
        let reader = BufReader::new(socket.try_clone()?);
        let mut client = Client { socket, reader };
        client.until_ready()?;
        Ok(client)
    }

    /// Sends a query without waiting for its answer.
    fn send(&self, query: &str) -> io::Result<()> {
        let length = u32::try_from(query.len() + 5).unwrap();
        let mut message = vec![b'Q'];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(query.as_bytes());
        message.push(0);
        (&self.socket).write_all(&message)
    }

    /// The next message: kind and body.
    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.reader.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length as usize - 4];
        self.reader.read_exact(&mut body)?;
        if head[0] == b'E' {
            return Err(io::Error::other(
                String::from_utf8_lossy(&body).into_owned(),
            ));
        }
        Ok((head[0], body))
    }

    fn until_ready(&mut self) -> io::Result<()> {
        while self.message()?.0 != b'Z' {}
        Ok(())
    }

    fn run(&mut self, query: &str) {
        self.send(query).unwrap();
        self.until_ready().unwrap();
    }

    /// First column of each row.
    fn rows(&mut self) -> io::Result<Vec<String>> {
        let mut rows = Vec::new();
        loop {
            match self.message()? {
                (b'D', body) => rows.push(String::from_utf8_lossy(&body[6..]).into_owned()),
                (b'Z', _) => return Ok(rows),
                _ => {}
            }
        }
    }
}

/// Clients that commit as fast as they can, several commits on the way at any time, and remember
/// what was acknowledged.
struct Load {
    sockets: Vec<UnixStream>,
    threads: Vec<std::thread::JoinHandle<()>>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    count: Arc<AtomicU64>,
}

impl Load {
    fn start(primary: &Primary, clients: u64) -> Load {
        let mut load = Load {
            sockets: Vec::new(),
            threads: Vec::new(),
            acknowledged: Arc::default(),
            count: Arc::default(),
        };
        for number in 0..clients {
            let mut client = primary.client();
            load.sockets.push(client.socket.try_clone().unwrap());
            let (acknowledged, count) = (load.acknowledged.clone(), load.count.clone());
            load.threads.push(std::thread::spawn(move || {
                let insert = |id: u64| client_insert(&client, id);
                let mut next = number * 1_000_000_000;
                for id in next..next + 20 {
                    let _ = insert(id);
                }
                let mut sent = next + 20;
                while let Ok((kind, _)) = client.message() {
                    if kind == b'C' {
                        acknowledged.lock().unwrap().push(next);
                        count.fetch_add(1, Ordering::Relaxed);
                        next += 1;
                        let _ = client_insert(&client, sent);
                        sent += 1;
                    }
                }
            }));
        }
        load
    }

    /// Every connection is closed by the other side, now.
    fn is_cut_off(&self) -> bool {
        self.sockets
            .iter()
            .all(|socket| ready(socket, PollFlags::HUP, Span::ZERO))
    }

    fn finish(self) -> Vec<u64> {
        for thread in self.threads {
            thread.join().unwrap();
        }
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.clone()
    }
}

fn client_insert(client: &Client, id: u64) -> io::Result<()> {
    client.send(&format!("insert into t values ({id})"))
}

/// Pids of the shells that the archiver started, and theirs.
fn sleepers() -> Vec<u32> {
    let is_sleeper = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line == b"sleep\x001000\x00" || line == b"sh\0-c\0sleep 1000; :\0")
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(is_sleeper)
        .collect()
}

/// Those sleepers that stand in this data directory.
fn archivers(data: &Path) -> Vec<u32> {
    let mut found = sleepers();
    found.retain(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data));
    found
}

#[test]
fn nothing_is_acknowledged_after_the_kill_and_nothing_acknowledged_is_lost() {
    let mut primary = Primary::start();
    primary.client().run("create table t (id bigint)");
    let load = Load::start(&primary, 30);
    until("every client commits", || {
        load.count.load(Ordering::Relaxed) > 600
    });
    let killed = pgherd_guard::kill(&primary.data(), &[], Span::from_secs(5), now).unwrap();
    // At once: no process is left that could say anything more.
    assert!(load.is_cut_off());
    println!("{killed:?}");
    assert!(killed.processes >= 30 + 5, "{killed:?}");
    let acknowledged = load.finish();
    let rows: std::collections::BTreeSet<u64> = primary
        .rows_after_restart()
        .iter()
        .map(|row| row.parse().unwrap())
        .collect();
    let lost = acknowledged.iter().filter(|id| !rows.contains(*id)).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

#[test]
fn stopped_processes_long_statements_and_archive_commands_end_too() {
    let mut primary = Primary::start();
    let mut observer = primary.client();
    observer.run("create table t (id bigint)");
    // An archive command that hangs, with a child of its own.
    observer.run("select pg_switch_wal()");
    until("the archiver runs", || {
        archivers(&primary.data()).len() == 2
    });
    // A statement that would commit two seconds from now.
    let busy = primary.client();
    busy.send("insert into t select 1 from pg_sleep(2)")
        .unwrap();
    observer.send("select pg_backend_pid()").unwrap();
    let stopped: i32 = observer.rows().unwrap()[0].parse().unwrap();
    until("the long statement runs", || {
        let mut client = primary.client();
        client
            .send("select pid from pg_stat_activity where wait_event = 'PgSleep'")
            .unwrap();
        client.rows().unwrap().len() == 1
    });
    kill_process(Pid::from_raw(stopped).unwrap(), Signal::STOP).unwrap();
    primary.postmaster.signal(Signal::STOP);
    let killed = pgherd_guard::kill(&primary.data(), &[], Span::from_secs(5), now).unwrap();
    assert!(ready(&busy.socket, PollFlags::HUP, Span::ZERO));
    assert!(ready(&observer.socket, PollFlags::HUP, Span::ZERO));
    println!("{killed:?}");
    assert_eq!(archivers(&primary.data()), [0u32; 0]);
    assert_eq!(primary.rows_after_restart(), [""; 0]);
}

#[test]
fn where_there_is_time_it_is_asked_to_quit() {
    let primary = Primary::start();
    let client = primary.client();
    client.send("select pg_sleep(60)").unwrap();
    let mut plan = Plan::starting(now(), PATIENCE);
    plan.quit = Some(PATIENCE / 2);
    let killed = pgherd_guard::kill_as_planned(&primary.data(), &[], &plan, now).unwrap();
    println!("{killed:?}");
    assert_eq!(killed.processes, 0, "nobody had to be killed");
    assert!(
        !primary.data().join("postmaster.pid").exists(),
        "it cleaned up"
    );
    assert!(ready(&client.socket, PollFlags::HUP, Span::ZERO));
}

#[test]
fn leftovers_of_a_dead_postmaster_are_killed() {
    let mut primary = Primary::start();
    let mut client = primary.client();
    client.run("create table t (id bigint)");
    client
        .send("insert into t select 1 from pg_sleep(60)")
        .unwrap();
    primary.postmaster.signal(Signal::KILL);
    assert!(ends_within(&primary.postmaster.pidfd(), PATIENCE));
    let killed = pgherd_guard::kill(&primary.data(), &[], Span::from_secs(5), now).unwrap();
    println!("{killed:?}");
    assert!(ready(&client.socket, PollFlags::HUP, Span::ZERO));
    assert_eq!(primary.rows_after_restart(), [""; 0]);
}

/// The shared memory says whose it is, and what is left of it calls itself PostgreSQL's.
#[test]
fn a_server_by_an_unknown_name_is_killed_as_well() {
    let primary = Primary::start_renamed();
    let client = primary.client();
    client.send("select pg_sleep(60)").unwrap();
    let killed = pgherd_guard::kill(&primary.data(), &[], Span::from_secs(5), now).unwrap();
    assert!(killed.processes >= 5, "{killed:?}");
    assert!(ends_within(&primary.postmaster.pidfd(), Span::ZERO));
    assert!(ready(&client.socket, PollFlags::HUP, Span::ZERO));

    let primary = Primary::start_renamed();
    let mut client = primary.client();
    client.send("select pg_backend_pid()").unwrap();
    let backend: i32 = client.rows().unwrap()[0].parse().unwrap();
    kill_process(Pid::from_raw(backend).unwrap(), Signal::STOP).unwrap();
    primary.postmaster.signal(Signal::KILL);
    assert!(ends_within(&primary.postmaster.pidfd(), PATIENCE));
    let killed = pgherd_guard::kill(&primary.data(), &[], Span::from_secs(5), now).unwrap();
    assert!(killed.processes >= 1, "{killed:?}");
    assert!(ready(&client.socket, PollFlags::HUP, Span::ZERO));
}

/// As PostgreSQL's own user, as agents run: without any privilege.
#[test]
fn an_unprivileged_guard_fires_after_its_agent_was_killed() {
    let primary = Primary::start();
    primary.client().run("create table t (id bigint)");
    // The build directory may be closed to that user.
    let program = primary.dir.path().join("guard_process");
    std::fs::copy(guard_program(), &program).unwrap();
    let load = Load::start(&primary, 4);
    until("every client commits", || {
        load.count.load(Ordering::Relaxed) > 200
    });
    let mut agent = as_postgres(&program)
        .arg("agent")
        .arg(primary.data())
        .args([primary.postmaster.pid().to_string(), String::from("700")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let armed = now();
    BufReader::new(agent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let guard = pidfd_of(line.trim().strip_prefix("armed ").unwrap().parse().unwrap());
    let agent = Running(agent);
    agent.signal(Signal::KILL);
    assert!(ends_within(&primary.postmaster.pidfd(), PATIENCE));
    println!("dead {:?} after arming with 700 ms", now().since(armed));
    assert!(load.is_cut_off());
    assert!(ends_within(&guard, PATIENCE));
    load.finish();
    // Nothing left for an unprivileged kill, which says so.
    let output = as_postgres(&program)
        .arg("kill")
        .arg(primary.data())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.starts_with("killed 0 "),
        "{text}"
    );
}
