//! May another user read or run a file? By owner, groups and modes of everything on the way to it;
//! access lists and the like are not looked at.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getgrouplist};
use std::ffi::CString;

/// Bits of one class of a mode.
pub(super) const READ: u32 = 4;
pub(super) const EXECUTE: u32 = 1;

/// Whether `user` may; else the first thing on the way that is closed, or missing. The way may lead
/// through links: what stands before and behind each of them is looked at.
pub(super) fn may(user: &User, file: &Path, wanted: u32) -> Result<(), PathBuf> {
    let whole = fs::canonicalize(file).map_err(|_| file.to_owned())?;
    for place in way(file) {
        if !allows(user, &place, EXECUTE) {
            return Err(place);
        }
    }
    match allows(user, &whole, wanted) {
        true => Ok(()),
        false => Err(whole),
    }
}

/// Whether everybody may read it.
pub(super) fn by_everybody(file: &Path) -> bool {
    let open = |place: &Path, bit: u32| fs::metadata(place).is_ok_and(|it| it.mode() & bit == bit);
    open(file, READ) && way(file).iter().all(|place| open(place, EXECUTE))
}

/// The directories that lead to it as it is named, and to where each of them really is.
fn way(file: &Path) -> Vec<PathBuf> {
    let named = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let real = |place: &Path| fs::canonicalize(place).ok();
    let places = named.ancestors().filter_map(real);
    let mut way: Vec<PathBuf> = Vec::new();
    for place in places.collect::<Vec<_>>().into_iter().rev() {
        let above = match place.is_dir() {
            true => place.ancestors(),
            false => place.parent().unwrap_or(&place).ancestors(),
        };
        for place in above
            .map(Path::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            if !way.contains(&place) {
                way.push(place);
            }
        }
    }
    // A directory that is asked for is no part of the way to it.
    way.retain(|place| Some(place) != real(file).as_ref());
    way
}

fn allows(user: &User, place: &Path, wanted: u32) -> bool {
    let Ok(meta) = fs::metadata(place) else {
        return false;
    };
    let class = if meta.uid() == user.uid.as_raw() {
        6
    } else if groups(user).contains(&meta.gid()) {
        3
    } else {
        0
    };
    (meta.mode() >> class) & wanted == wanted
}

fn groups(user: &User) -> Vec<u32> {
    let own = vec![user.gid.as_raw()];
    let Ok(name) = CString::new(user.name.as_str()) else {
        return own;
    };
    match getgrouplist(&name, user.gid) {
        Ok(groups) => groups.iter().map(|group| group.as_raw()).collect(),
        Err(_) => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Nobody is the owner of what the test makes, and in none of its groups.
    #[test]
    fn a_closed_directory_on_the_way_is_found() {
        let Ok(Some(nobody)) = User::from_name("nobody") else {
            return;
        };
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let file = inner.join("file");
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        let closed = |path: &Path| Err(path.canonicalize().unwrap());
        mode(dir.path(), 0o755);
        mode(&inner, 0o700);
        mode(&file, 0o644);
        assert_eq!(may(&nobody, &file, READ), closed(&inner));
        mode(&inner, 0o755);
        assert_eq!(may(&nobody, &file, READ), Ok(()));
        assert_eq!(may(&nobody, &file, EXECUTE), closed(&file));
        mode(&file, 0o640);
        assert_eq!(may(&nobody, &file, READ), closed(&file));
        let missing = inner.join("none");
        assert_eq!(may(&nobody, &missing, READ), Err(missing.clone()));
    }

    /// What everybody may read is not closed to those who look through a link, but a link may be.
    #[test]
    fn both_ends_of_a_link_are_looked_at() {
        let Ok(Some(nobody)) = User::from_name("nobody") else {
            return;
        };
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        let [here, there] = ["here", "there"].map(|name| dir.path().join(name));
        fs::create_dir(&here).unwrap();
        fs::create_dir(&there).unwrap();
        let (file, link) = (there.join("file"), here.join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        mode(&file, 0o644);
        for (here_mode, there_mode, closed) in [
            (0o755, 0o755, None),
            (0o700, 0o755, Some(&here)),
            (0o755, 0o700, Some(&there)),
        ] {
            mode(&here, here_mode);
            mode(&there, there_mode);
            let expected = closed.map_or(Ok(()), |closed| Err(closed.canonicalize().unwrap()));
            assert_eq!(may(&nobody, &link, READ), expected);
            assert_eq!(by_everybody(&link), closed.is_none());
        }
        mode(&there, 0o755);
        mode(&file, 0o640);
        assert!(!by_everybody(&link));
        assert_eq!(may(&nobody, &there, READ | EXECUTE), Ok(()));
        mode(&there, 0o711);
        let list = may(&nobody, &there, READ | EXECUTE);
        assert_eq!(list, Err(there.canonicalize().unwrap()));
    }
}
