//! Cleaning up even when the test process is killed: a small shell process outside of our process
//! group waits for the end of a pipe, then kills what works in a directory and removes it.

use crate::process;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The directory comes through the pipe and not as an argument, so that neither this script nor
/// [`process::of_dir`] takes the janitor for one of the processes to be killed.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
IFS= read -r dir || exit 0
todo=
while IFS= read -r line; do todo="$todo
$line"; done
[ -e "$dir" ] || { eval "$todo"; exit 0; }
round=0
while [ $round -lt 50 ]; do
  round=$((round + 1)); found=
  for p in /proc/[0-9]*; do
    pid=${p#/proc/}
    [ "$pid" = $$ ] && continue
    case "$(readlink "$p/cwd" 2>/dev/null)" in
      "$dir"|"$dir"/*) kill -9 "$pid" 2>/dev/null; found=1; continue ;;
    esac
    case "$(tr '\0' ' ' <"$p/cmdline" 2>/dev/null)" in
      *"$dir"*) kill -9 "$pid" 2>/dev/null; found=1 ;;
    esac
  done
  [ -z "$found" ] && break
done
eval "$todo"
rm -rf "$dir"
"#;

/// Owner of a directory and of everything that runs in it.
#[derive(Debug)]
pub struct Janitor {
    dir: PathBuf,
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// Makes a new directory below `base`, mode 0755, that belongs to the unprivileged user.
    ///
    /// # Panics
    /// When the directory can not be made or no shell starts.
    pub fn new(base: &Path, prefix: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(base);
        let dir = dir.expect("make a scratch directory").keep();
        let dir = dir.canonicalize().expect("resolve the scratch directory");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        process::give(&dir);
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start sh");
        let mut pipe = child.stdin.take().expect("a piped stdin");
        writeln!(pipe, "{}", dir.display()).expect("tell the janitor its directory");
        Janitor {
            dir,
            child,
            pipe: Some(pipe),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One shell line to be run at the end (`umount`, `ip netns del`).
    pub fn at_end(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        process::kill_of_dir(&self.dir);
        self.pipe = None;
        let _ = self.child.wait();
    }
}
