//! A disk of a member's own, below its data directory: a file with a file system in it. It can be full, and
//! it can stop to answer.

use crate::process;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Three times what a member needs in a scenario.
const SIZE: u64 = 640 << 20;
/// What takes the room of a full disk.
const BALLAST: &str = "ballast";

/// One disk, mounted. It answers again when this is dropped; whoever removes the directory unmounts it.
#[derive(Debug)]
pub(super) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes the file `image` and mounts it at `at`, which belongs to the user of PostgreSQL then.
    ///
    /// # Errors
    /// What this machine lacks.
    pub(super) fn make(image: &Path, at: &Path) -> Result<Disk, String> {
        let file = File::create(image).map_err(|e| format!("{}: {e}", image.display()))?;
        file.set_len(SIZE)
            .map_err(|e| format!("{}: {e}", image.display()))?;
        std::fs::create_dir_all(at).map_err(|e| format!("{}: {e}", at.display()))?;
        // No room is kept for root: full is full.
        let format = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"];
        run(Command::new("mkfs.ext4").args(format).arg(image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(at))?;
        process::give(at);
        Ok(Disk { at: at.to_owned() })
    }

    /// Shell line for whoever removes the directory.
    pub(super) fn at_end(&self) -> String {
        let at = self.at.display();
        format!("fsfreeze -u '{at}' 2>/dev/null; umount -l '{at}'")
    }

    /// Whoever writes waits, and cannot be killed, until [`Disk::thaw`].
    pub(super) fn freeze(&self) -> Result<(), String> {
        run(Command::new("fsfreeze").arg("-f").arg(&self.at))
    }

    /// It answers again; also when it did all the time.
    pub(super) fn thaw(&self) {
        // The program complains about a disk that is not frozen.
        let _ = process::output(Command::new("fsfreeze").arg("-u").arg(&self.at));
    }

    /// Takes all the room that is left.
    pub(super) fn fill(&self) -> Result<(), String> {
        use rustix::fs::{FallocateFlags, fallocate};
        let file = File::create(self.at.join(BALLAST)).map_err(|e| e.to_string())?;
        let (mut filled, mut piece) = (0, SIZE);
        while piece >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), filled, piece) {
                Ok(()) => filled += piece,
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(format!("cannot fill {}: {error}", self.at.display())),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn clear(&self) {
        // It may never have been full.
        let _ = std::fs::remove_file(self.at.join(BALLAST));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
    }
}

/// Whether this machine can make, fill and freeze such a disk; if not, what it lacks.
pub(super) fn possible() -> Result<(), String> {
    let dir = tempfile::tempdir_in(process::scratch_dir()).map_err(|e| e.to_string())?;
    let at = dir.path().join("disk");
    let disk = Disk::make(&dir.path().join("image"), &at)?;
    let tried = disk.freeze();
    disk.thaw();
    let tried = tried.and_then(|()| disk.fill());
    let ended = run(Command::new("umount").arg(&at));
    tried.and(ended)
}

fn run(command: &mut Command) -> Result<(), String> {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words = words.join(" ");
    let output = process::output(command).map_err(|e| format!("{words}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{words}: {}", said.trim()))
        }
    }
}
