//! Genuine Patroni, the judge of compatibility: from `PGHERD_ORACLE` (a virtual environment), else
//! installed from PyPI once, beside the build.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What is installed.
pub const PACKAGES: [&str; 2] = ["patroni[etcd3]==4.1.5", "psycopg[binary]"];

/// The genuine `patroni`; `None` (with the reason on stderr) where it can not be had.
pub fn patroni() -> Option<PathBuf> {
    directory().map(|d| d.join("bin/patroni"))
}

/// The genuine `patronictl`; `None` as for [`patroni`].
pub fn patronictl() -> Option<PathBuf> {
    directory().map(|d| d.join("bin/patronictl"))
}

fn directory() -> Option<PathBuf> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| {
        let found = match std::env::var_os("PGHERD_ORACLE") {
            Some(dir) => Ok(PathBuf::from(dir)),
            None => install(),
        };
        match found {
            Ok(dir) => Some(dir),
            Err(reason) if std::env::var_os("PGHERD_REQUIRE_ORACLE").is_some() => {
                panic!("genuine Patroni is required and not there: {reason}")
            }
            Err(reason) => {
                eprintln!("no genuine Patroni: {reason}");
                None
            }
        }
    })
    .clone()
}

fn install() -> Result<PathBuf, String> {
    let dir = place();
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let lock = File::create(dir.join(".lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    let venv = dir.join("patroni-4.1.5");
    if venv.join(".complete").exists() {
        return Ok(venv);
    }
    let venv_text = venv.to_string_lossy().into_owned();
    run(Command::new(python()).args(["-m", "venv", "--clear", &venv_text]))
        .map_err(|e| format!("{e} (Debian: apt-get install python3-venv)"))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    run(pip
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES))?;
    fs::write(venv.join(".complete"), "").map_err(|e| e.to_string())?;
    Ok(venv)
}

/// The distribution's interpreter when we are root: one in root's home is of no use to others.
fn python() -> &'static str {
    let system = "/usr/bin/python3";
    if crate::process::account().is_some() && Path::new(system).exists() {
        system
    } else {
        "python3"
    }
}

/// `target/oracle`, or a directory of the system when others may not enter the build directory.
fn place() -> PathBuf {
    let target = crate::binary::profile_dir()
        .parent()
        .map(|d| d.join("oracle"));
    match target {
        Some(dir) if open_to_everybody(dir.parent().unwrap_or(&dir)) => dir,
        _ => PathBuf::from("/var/tmp").join(format!("pgherd-oracle-{}", nix::unistd::geteuid())),
    }
}

fn open_to_everybody(dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    crate::process::account().is_none()
        || dir
            .ancestors()
            .all(|d| fs::metadata(d).is_ok_and(|m| m.permissions().mode() & 0o005 == 0o005))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
