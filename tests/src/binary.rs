//! Finding and building the `pgherd` program that the tests drive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program: `PGHERD_BIN`, else the one beside the running test, built first if it is stale.
///
/// # Panics
/// When it does not build.
pub fn pgherd() -> PathBuf {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| match std::env::var_os("PGHERD_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
    .clone()
}

/// The directory of this build profile (`target/debug`).
///
/// # Panics
/// When this program does not lie in a target directory.
pub fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this program");
    let mut dir = exe.parent().expect("a directory");
    if dir.ends_with("deps") {
        dir = dir.parent().expect("a directory above deps");
    }
    dir.to_path_buf()
}

fn build() -> PathBuf {
    let dir = profile_dir();
    let binary = dir.join("pgherd");
    fs::create_dir_all(&dir).expect("the profile directory");
    let lock = File::create(dir.join(".pgherd-tests-build")).expect("a lock file");
    lock.lock().expect("wait for the lock file");
    // One build per nextest run: every test is a process of its own there.
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_default();
    let stamp = dir.join(".pgherd-tests-run");
    if !run.is_empty() && fs::read_to_string(&stamp).is_ok_and(|r| r == run) && binary.exists() {
        return binary;
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "pgherd", "--bin", "pgherd"]);
    match dir.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => {}
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    // Variables of this package's own build or run would make cargo rebuild the world.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("run cargo");
    assert!(
        status.success(),
        "cargo build --package pgherd failed: {status}"
    );
    fs::write(stamp, run).expect("note the run");
    binary
}

/// Copies the program, as `pgherd`, to where the unprivileged user can run it (root's home is closed to others).
///
/// # Panics
/// When it can not be copied.
pub fn copy_for_everybody(program: &Path, dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let target = dir.join("pgherd");
    fs::copy(program, &target)
        .unwrap_or_else(|e| panic!("copy {} to {}: {e}", program.display(), target.display()));
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("chmod");
    target
}
