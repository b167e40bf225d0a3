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

/// Whether `user` may; else the first thing on the way that is closed, or missing.
pub(super) fn may(user: &User, file: &Path, wanted: u32) -> Result<(), PathBuf> {
    let whole = fs::canonicalize(file).map_err(|_| file.to_owned())?;
    let mut way: Vec<&Path> = whole.ancestors().collect();
    way.reverse();
    for place in way {
        let wanted = match place == whole {
            true => wanted,
            false => EXECUTE,
        };
        if !allows(user, place, wanted) {
            return Err(place.to_owned());
        }
    }
    Ok(())
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
}
