//! By which path this program was called. A link (`/usr/local/bin/pgherd`) may lead to another version tomorrow, while
//! the file that it leads to today is removed: so the link is what a unit names, and what an upgrade executes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The path by which this process was called; `None`: that name led nowhere, or to another file. To be asked at the
/// start, too: what is found at the first time stays, wherever the path leads later.
pub(crate) fn path() -> Option<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let called = std::env::args_os().next().unwrap_or_default();
        let places = std::env::var_os("PATH").unwrap_or_default();
        called_by(&called, &places, Path::new("/proc/self/exe"))
    };
    PATH.get_or_init(find).as_deref()
}

/// The path that a shell takes this word for, if `this` file is there.
fn called_by(word: &OsStr, places: &OsStr, this: &Path) -> Option<PathBuf> {
    let number = |path: &Path| {
        fs::metadata(path)
            .map(|about| (about.dev(), about.ino()))
            .ok()
    };
    let this = number(this)?;
    let word = Path::new(word);
    let candidates: Vec<PathBuf> = match word.parent() {
        Some(parent) if parent == Path::new("") => std::env::split_paths(places)
            .map(|place| place.join(word))
            .collect(),
        _ => vec![word.to_owned()],
    };
    let candidates = candidates
        .iter()
        .filter_map(|path| std::path::absolute(path).ok());
    let mut same = candidates.filter(|path| number(path) == Some(this));
    same.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/usr/local/bin/pgherd` stays what it is, whatever it leads to.
    #[test]
    fn the_name_that_the_program_was_called_by_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("1.2")).unwrap();
        fs::create_dir(path("bin")).unwrap();
        fs::write(path("1.2/pgherd"), "").unwrap();
        fs::write(path("pgherd"), "").unwrap();
        std::os::unix::fs::symlink("../1.2/pgherd", path("bin/pgherd")).unwrap();
        let places = std::env::join_paths([dir.path(), &path("bin")]).unwrap();
        let called = |word: &OsStr| called_by(word, &places, &path("1.2/pgherd"));
        let link = path("bin/pgherd");
        assert_eq!(called("pgherd".as_ref()), Some(link.clone()));
        assert_eq!(called(link.as_os_str()), Some(link));
        assert_eq!(called(path("pgherd").as_os_str()), None, "another file");
        assert_eq!(called("".as_ref()), None);
        assert_eq!(called("none".as_ref()), None);
    }
}
