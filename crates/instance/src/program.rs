//! PostgreSQL's programs: where they are, and how one is run with a deadline, without passwords in
//! its arguments, and with the end of what it said for the error text.

use crate::files::{self, blocking};
use crate::{Error, Instance, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};

/// Lines and bytes of a program's output that are kept for an error.
const TAIL_LINES: usize = 15;
const TAIL_LINE: usize = 500;
/// Of a program that writes where the agent does.
const ITS_OUTPUT: &str = "what it wrote is where the agent's own output goes";

/// Path of a program: `bin_dir` and `bin_name`, else from PATH.
pub(crate) fn path(instance: &Instance, program: &str) -> Result<PathBuf> {
    let options = &instance.options();
    let name = options
        .bin_name
        .get(program)
        .map_or(program, String::as_str);
    let executable = |path: &Path| {
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let directories: Vec<PathBuf> = match &options.bin_dir {
        Some(dir) => vec![dir.clone()],
        None => std::env::var_os("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default(),
    };
    directories
        .iter()
        .map(|dir| dir.join(name))
        .find(|path| executable(path))
        .ok_or_else(|| Error::ProgramMissing {
            program: name.to_owned(),
            place: options
                .bin_dir
                .as_ref()
                .map_or("PATH".to_owned(), |dir| dir.display().to_string()),
        })
}

pub(crate) async fn check(instance: &Instance, rewind: bool) -> Result<()> {
    let mut needed = vec!["postgres", "initdb", "pg_basebackup"];
    if rewind {
        needed.push("pg_rewind");
    }
    needed
        .into_iter()
        .try_for_each(|program| path(instance, program).map(|_| ()))
}

pub(crate) async fn major_version(instance: &Instance) -> Result<u32> {
    let file = instance.path().join("PG_VERSION");
    let text = blocking("reading PG_VERSION", move || files::read_text(&file)).await?;
    if let Some(version) = text.as_deref().and_then(|text| text.trim().parse().ok()) {
        return Ok(version);
    }
    let output = Run::new(instance, path(instance, "postgres")?)
        .arg("--version")
        .anywhere()
        .output(Duration::from_secs(10))
        .await?;
    parse_version(&output).ok_or(Error::Unexpected {
        what: "asking postgres for its version",
        reason: output,
    })
}

/// 15 from `postgres (PostgreSQL) 15.18 (Debian ...)`, 18 from `... 18beta1`.
fn parse_version(text: &str) -> Option<u32> {
    let rest = text.split_once("(PostgreSQL) ")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Names of environment variables that no child of ours inherits.
pub fn is_private(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    // The service manager's messages are the agent's: PostgreSQL would send its own to that socket.
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].contains(&name.as_ref())
        || ["PATRONI_", "PGHERD_", "KUBERNETES_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// A program about to be run.
pub(crate) struct Run {
    name: String,
    command: tokio::process::Command,
    directory: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    still: Option<Duration>,
    own_output: bool,
    secrets: Vec<String>,
}

/// Kills a program's process group unless it has ended: also when the waiting future is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Nobody else can have this number: the group's leader is not reaped before disarming.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Run {
    /// A program in the data directory (where there is one: that is how a later agent finds it),
    /// with C messages and without our private environment.
    pub(crate) fn new(instance: &Instance, program: PathBuf) -> Run {
        let mut command = tokio::process::Command::new(&program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_private(name)) {
            command.env_remove(name);
        }
        command.env("LC_MESSAGES", "C");
        let options = &instance.options();
        let roles = [
            Some(&options.superuser),
            Some(&options.replication),
            options.rewind.as_ref(),
        ];
        let secrets = roles
            .into_iter()
            .flatten()
            .flat_map(|role| [&role.password, &role.sslpassword])
            .flatten()
            .map(|secret| secret.expose().to_owned())
            .filter(|secret| secret.len() >= 4)
            .collect();
        Run {
            name: program
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            command,
            directory: Some(instance.path().to_owned()).filter(|dir| dir.is_dir()),
            stdin: None,
            still: None,
            own_output: false,
            secrets,
        }
    }

    /// The name that errors show.
    pub(crate) fn named(mut self, name: &str) -> Run {
        self.name = name.to_owned();
        self
    }

    /// In the agent's working directory.
    pub(crate) fn anywhere(mut self) -> Run {
        self.directory = None;
        self
    }

    /// With the agent's own LC_MESSAGES: initdb writes it into the cluster's configuration.
    pub(crate) fn own_messages(mut self) -> Run {
        match std::env::var_os("LC_MESSAGES") {
            Some(value) => self.command.env("LC_MESSAGES", value),
            None => self.command.env_remove("LC_MESSAGES"),
        };
        self
    }

    /// What it writes goes where the agent's own output goes.
    pub(crate) fn own_output(mut self) -> Run {
        self.command
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit());
        self.own_output = true;
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Run {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Run {
        self.command.env(name, value.into());
        self
    }

    pub(crate) fn stdin(mut self, bytes: Vec<u8>) -> Run {
        self.command.stdin(Stdio::piped());
        self.stdin = Some(bytes);
        self
    }

    /// Given up once it, and what it runs, has used no processor time for so long, however long it may take otherwise.
    pub(crate) fn unless_still_for(mut self, still: Duration) -> Run {
        self.still = Some(still);
        self
    }

    /// Runs it; its standard output on success.
    pub(crate) async fn output(mut self, timeout: Duration) -> Result<String> {
        let failed = |status: String, tail: String, name: &str| Error::ProgramFailed {
            program: name.to_owned(),
            status,
            tail,
        };
        if let Some(directory) = &self.directory {
            self.command.current_dir(directory);
        }
        let mut child = self
            .command
            .spawn()
            .map_err(|e| failed("not started".to_owned(), e.to_string(), &self.name))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
        let mut group = Group(pid);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let (Some(bytes), Some(mut stdin)) = (self.stdin.take(), child.stdin.take()) {
            // Small texts only: they fit into the pipe.
            let _ = stdin.write_all(&bytes).await;
        }
        let name = self.name.clone();
        let work = async {
            let (out, tail, status) = tokio::join!(
                collect(stdout, None),
                collect(stderr, Some(&name)),
                child.wait()
            );
            (out, tail, status)
        };
        let ended = tokio::select! {
            biased;
            ended = work => Ok(ended),
            over = over(timeout, pid, self.still) => Err(over),
        };
        match ended {
            Ok((out, mut tail, status)) => {
                group.0 = None;
                let status =
                    status.map_err(|e| failed(e.to_string(), String::new(), &self.name))?;
                if status.success() {
                    return Ok(out.join("\n"));
                }
                if self.own_output {
                    tail = vec![ITS_OUTPUT.to_owned()];
                } else if tail.is_empty() {
                    tail = out;
                }
                Err(failed(status.to_string(), self.scrub(&tail), &self.name))
            }
            Err((after, last)) => Err(Error::Timeout {
                what: self.name.clone(),
                after,
                last: last.to_owned(),
            }),
        }
    }

    /// The lines for an error, without the passwords that we know.
    fn scrub(&self, lines: &[String]) -> String {
        let mut text = lines.join("\n");
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}

/// Waits until a program is to be given up: after how long, and why if not for its time alone.
async fn over(
    timeout: Duration,
    pid: Option<Pid>,
    still: Option<Duration>,
) -> (Duration, &'static str) {
    let hangs = async {
        match (pid, still) {
            (Some(pid), Some(still)) => {
                stands_still(pid, still).await;
                (still, "it has used no processor time for as long")
            }
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tokio::time::sleep(timeout) => (timeout, ""),
        hangs = hangs => hangs,
    }
}

/// Returns once this group of processes has used no processor time for `still`.
async fn stands_still(group: Pid, still: Duration) {
    // Looks, not time: this program may have been stopped together with that one.
    const LOOKS: u32 = 10;
    let (mut used, mut same) = (Used::default(), 0);
    while same < LOOKS {
        let looked = tokio::task::spawn_blocking(move || Used::by(group)).await;
        let now = looked.unwrap_or_default();
        let stands = !now.waits_for_disk && now.times == used.times;
        same = if stands { same + 1 } else { 0 };
        used = now;
        tokio::time::sleep(still / LOOKS).await;
    }
}

/// What a group of processes has used so far.
#[derive(Default)]
struct Used {
    /// By process, in ticks, with what ended children of it have used. A program may be wrapped in others, and run
    /// others in its turn.
    times: BTreeMap<i32, u64>,
    /// In a system call that may take any time: one that synchronises a large disk, say.
    waits_for_disk: bool,
}

impl Used {
    fn by(group: Pid) -> Used {
        let mut used = Used::default();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for entry in entries {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = pid else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok();
            let stat = stat.as_deref().and_then(read_stat);
            let Some((of, state, time)) = stat else {
                continue;
            };
            if of == group.as_raw_nonzero().get() {
                used.times.insert(pid, time);
                used.waits_for_disk |= state == "D";
            }
        }
        used
    }
}

/// Process group, state and processor time, with that of ended children (proc_pid_stat(5)).
fn read_stat(stat: &str) -> Option<(i32, &str, u64)> {
    // Its name may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let group = fields.get(2)?.parse().ok()?;
    let times = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok());
    Some((group, fields.first()?, times.sum()))
}

/// Reads lines; with a name they are logged, and only the last are kept.
async fn collect(stream: Option<impl AsyncRead + Unpin>, log: Option<&str>) -> Vec<String> {
    let Some(stream) = stream else {
        return Vec::new();
    };
    let mut kept = VecDeque::new();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    // Progress lines end with a carriage return only: they count as one long line, cut below.
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
        let text: String = match log {
            Some(_) => text.chars().take(TAIL_LINE).collect(),
            None => text.to_owned(),
        };
        line.clear();
        if log.is_some() && kept.len() >= TAIL_LINES {
            kept.pop_front();
        }
        kept.push_back(text);
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("psql 15"), None);
    }

    #[tokio::test]
    async fn a_program_that_works_does_not_stand_still() {
        let start = |script: &str| {
            let mut command = tokio::process::Command::new("sh");
            command.args(["-c", script]).process_group(0);
            let child = command.spawn().unwrap();
            let pid = child.id().and_then(|id| Pid::from_raw(id as i32)).unwrap();
            (Group(Some(pid)), pid)
        };
        let (_sleeps, pid) = start("sleep 60; true");
        let (long, still) = (Duration::from_secs(50), Duration::from_millis(500));
        assert_eq!(over(long, Some(pid), Some(still)).await.0, still);
        // What is run works, whoever waits for it does not.
        let (_works, pid) = start("(while :; do :; done); true");
        let whole = Duration::from_secs(4);
        assert_eq!(over(whole, Some(pid), Some(whole / 2)).await, (whole, ""));
    }

    #[test]
    fn a_line_of_stat_is_read() {
        let stat = "7 (a (b) c) D 1 42 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 1 0 5 6";
        assert_eq!(read_stat(stat), Some((42, "D", 4330)));
        assert_eq!(read_stat("7 (a) S 1"), None);
    }

    #[test]
    fn private_environment() {
        for name in [
            "PATRONI_X",
            "KUBERNETES_PORT",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "PGHERD_GUARD",
        ] {
            assert!(is_private(OsStr::new(name)));
        }
        assert!(!is_private(OsStr::new("PGTZ")));
    }
}
