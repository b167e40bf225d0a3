//! Genuine Patroni, the judge of compatibility: a virtual environment that `PGHERD_ORACLE` names, else
//! the one that `cargo xtask test` has installed and linked to in the build directory. Nothing is
//! installed here.

use crate::skip::{self, Need};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The genuine `patroni`; `None` (with the reason on stderr) where there is none.
///
/// # Panics
/// When there is none and it is required ([`skip`]).
pub fn patroni() -> Option<PathBuf> {
    directory().map(|d| d.join("bin/patroni"))
}

/// The genuine `patronictl`; `None` as for [`patroni`].
///
/// # Panics
/// As [`patroni`].
pub fn patronictl() -> Option<PathBuf> {
    directory().map(|d| d.join("bin/patronictl"))
}

fn directory() -> Option<PathBuf> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| match find() {
        Ok(dir) => Some(dir),
        Err(reason) => {
            skip::lacking(Need::Patroni, &reason);
            None
        }
    })
    .clone()
}

fn find() -> Result<PathBuf, String> {
    let link = crate::binary::profile_dir()
        .parent()
        .map(|target| target.join("patroni"));
    let named = std::env::var_os("PGHERD_ORACLE").map(PathBuf::from);
    let dir = named.or(link).unwrap_or_default();
    // The unprivileged user may not be able to follow a link through the build directory.
    let dir = dir.canonicalize().unwrap_or(dir);
    match ["patroni", "patronictl"].map(|program| dir.join("bin").join(program)) {
        programs if programs.iter().all(|program| program.is_file()) => Ok(dir),
        _ => Err(missing(&dir)),
    }
}

fn missing(dir: &Path) -> String {
    format!(
        "no genuine Patroni in {}: `cargo xtask test` installs it, or set PGHERD_ORACLE to a virtual \
         environment that has it",
        dir.display()
    )
}
