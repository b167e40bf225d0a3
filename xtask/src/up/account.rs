//! Who PostgreSQL and etcd run as: PostgreSQL refuses root, so root uses the distribution's
//! unprivileged user and hands it exactly the directories that it needs.

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The user that everything runs as.
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
    /// We are root and become this user.
    switch: bool,
}

impl Account {
    /// `postgres` if we are root, else ourselves.
    pub(super) fn choose() -> Result<Account> {
        if !crate::machine::is_root() {
            return Ok(Account {
                uid: nix::unistd::getuid(),
                gid: nix::unistd::getgid(),
                switch: false,
            });
        }
        let user = User::from_name("postgres")
            .context("cannot read the list of users")?
            .context("PostgreSQL refuses to run as root and there is no user `postgres`: create it with `adduser --system --group postgres`")?;
        Ok(Account {
            uid: user.uid,
            gid: user.gid,
            switch: true,
        })
    }

    /// A command as this user, with almost nothing of our environment: a user's own `PGHOST` or
    /// `PATRONI_NAME` must not reach the nodes.
    pub(super) fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", home)
            .env("LC_ALL", "C.UTF-8")
            .current_dir(home);
        for name in ["PATH", "RUST_LOG", "RUST_BACKTRACE", "TZ", "TERM"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if self.switch {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }

    /// A new directory that only this user can enter. Fails if it is there already.
    pub(super) fn make_dir(&self, path: &Path) -> Result<()> {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        self.own(path)
    }

    /// A new file that only this user can read.
    pub(super) fn write_secret(&self, path: &Path, text: &str) -> Result<()> {
        write_private(path, text)?;
        self.own(path)
    }

    /// Gives a path to this user.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        if !self.switch {
            return Ok(());
        }
        std::os::unix::fs::chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .with_context(|| format!("cannot give {} to user postgres", path.display()))
    }
}

/// A new file that only we can read.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// 32 hexadecimal digits from the system's source of chance.
pub(super) fn secret() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
