//! The circumstances of a run: machine, file systems, versions. Figures mean nothing without them.

use crate::process;
use std::path::Path;
use std::process::Command;

/// Lines of `name: value` for the head of the report.
pub type Facts = Vec<(String, String)>;

const LOAD: &str = "load average at the start";
const DATE: &str = "date";
/// Facts that are others at every start of the program.
pub const PASSING: [&str; 2] = [LOAD, DATE];

/// Facts of this machine; `disk` and `memory` are directories of the data and of etcd.
pub fn facts(disk: &Path, memory: &Path) -> Facts {
    let cpus = read("/proc/cpuinfo");
    let model = field(&cpus, "model name").unwrap_or("unknown").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory_kb = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|m| m.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    vec![
        pair(
            "processor",
            format!("{model}, {cores} cores, {} GB", memory_kb.div_ceil(1 << 20)),
        ),
        pair(
            "kernel",
            read("/proc/sys/kernel/osrelease").trim().to_owned(),
        ),
        pair("data directories on", file_system(disk)),
        pair("etcd's three members on", file_system(memory)),
        pair(LOAD, load.to_owned()),
        pair(DATE, output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
    ]
}

/// The programs that are measured, and how the one that measures was built. `patroni` is its command.
pub fn programs(patroni: Option<&[String]>, pgherd: Option<&Path>) -> Facts {
    let postgres = process::pg_bin().join("postgres").display().to_string();
    let mut facts = vec![
        pair("PostgreSQL", version(&postgres, &[])),
        pair("etcd", version("etcd", &[])),
    ];
    if let Some((program, rest)) = patroni.and_then(<[String]>::split_first) {
        facts.push(pair("Patroni", version(program, rest)));
    }
    if let Some(program) = pgherd {
        let version = version(&program.display().to_string(), &[]);
        let text = format!("{version}, sha256 {}", checksum(program));
        facts.push(pair("pgherd", text));
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    facts.push(pair("benchmark built as", profile.to_owned()));
    facts
}

/// First line that a program prints when asked for its version.
pub fn version(program: &str, arguments: &[String]) -> String {
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.push("--version");
    output(program, &all)
}

/// The first digits of a program's checksum: two builds of one version are two programs.
pub fn checksum(program: &Path) -> String {
    let line = output("sha256sum", &[&program.display().to_string()]);
    line.chars().take(12).collect()
}

/// A fact.
pub fn pair(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

/// Type of the file system that holds `path`, by the longest mount point above it.
pub fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = read("/proc/self/mounts");
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            let (_, point, kind) = (parts.next()?, parts.next()?, parts.next()?);
            path.starts_with(point)
                .then(|| (point.len(), kind.to_owned()))
        })
        .max();
    best.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// First line of a program's output; says so when there is none.
fn output(program: &str, arguments: &[&str]) -> String {
    let Ok(done) = Command::new(program).args(arguments).output() else {
        return format!("cannot run {program}");
    };
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.lines()
        .next()
        .unwrap_or("says nothing")
        .trim()
        .to_owned()
}
