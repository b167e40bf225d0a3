//! What is closed to a user is told with the line that names it, and what to do. Nobody is that user:
//! the owner of nothing that a test makes.

use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

struct World {
    dir: tempfile::TempDir,
    file: PathBuf,
}

impl World {
    /// Directories `open` (for everybody), `room` (everybody may make files there) and `shut`.
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        for (name, bits) in [("open", 0o755), ("room", 0o777), ("shut", 0o700)] {
            let place = dir.path().join(name);
            fs::create_dir(&place).unwrap();
            mode(&place, bits);
        }
        let file = dir.path().join("n1.yml");
        World { dir, file }
    }

    /// What is told of a configuration in which `@` is the directory.
    fn troubles(&self, user: &User, data_dir: &str, more: &str) -> Vec<String> {
        let here = self.dir.path().display().to_string();
        let text = format!(
            "scope: demo\nname: n1\nrestapi: {{listen: '127.0.0.1:8008'}}\netcd3: {{hosts: '127.0.0.1:2379'}}\n\
             postgresql:\n  listen: 127.0.0.1:5432\n  data_dir: {data_dir}\n  \
             authentication: {{superuser: {{username: p}}, replication: {{username: r}}}}\n{more}"
        );
        fs::write(&self.file, text.replace('@', &here)).unwrap();
        let env = BTreeMap::new();
        let loaded = config::load(&self.file, &env).unwrap();
        let needs = Needs {
            node: &loaded.node,
            user,
            givens: &config::givens(Some(&self.file), &env).unwrap(),
        };
        let troubles = needs.troubles().into_iter();
        let file = self.file.display().to_string();
        let short = |it: String| it.replace(&file, "n1.yml").replace(&here, "@");
        troubles.map(short).collect()
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Somebody else than whoever runs the test, who must be able to close things to them.
fn nobody() -> Option<User> {
    let root = nix::unistd::Uid::effective().is_root();
    User::from_name("nobody").ok().flatten().filter(|_| root)
}

#[test]
fn what_can_be_used_is_not_told_of() {
    let Some(nobody) = nobody() else { return };
    let world = World::new();
    let key = world.dir.path().join("open/key.pem");
    fs::write(&key, "").unwrap();
    std::os::unix::fs::chown(&key, Some(nobody.uid.as_raw()), None).unwrap();
    mode(&key, 0o600);
    let more = "  pgpass: @/room/pgpass\n  parameters: {ssl: 'on', ssl_key_file: @/open/key.pem, \
                ssl_cert_file: server.pem}\nlog: {dir: @/room}\n";
    let none: [&str; 0] = [];
    assert_eq!(world.troubles(&nobody, "@/room/pg/data", more), none);
    let within = "  pgpass: @/room/pg/data/pgpass\n";
    assert_eq!(world.troubles(&nobody, "@/room/pg/data", within), none);
    let data = world.dir.path().join("room/pg");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(nobody.uid.as_raw()), None).unwrap();
    // Its parent's owner does not count, nor what comes with the data.
    let more = "  parameters: {ssl: on, ssl_cert_file: @/room/pg/server.pem}\n";
    assert_eq!(world.troubles(&nobody, "@/room/pg", more), none);
    let off = "  parameters: {ssl: 'off', ssl_key_file: @/shut/key}\n";
    assert_eq!(world.troubles(&nobody, "@/room/pg", off), none);
}

#[test]
fn a_data_directory_that_cannot_be_made_or_used_is_told_of() {
    let Some(nobody) = nobody() else { return };
    let world = World::new();
    for (data_dir, expected) in [
        (
            "@/open/missing/data",
            "user nobody may not make @/open/missing/data in @/open: install -d -m 0700 -o nobody \
             @/open/missing/data",
        ),
        (
            "@/shut/data",
            "user nobody does not come to @/shut/data, since @/shut is closed to them: put it elsewhere, \
             below /var/lib/postgresql for example",
        ),
        (
            "@/open",
            "user nobody may not read and write @/open: chown -R nobody @/open, chmod 0700 @/open",
        ),
        (
            "@/room",
            "@/room belongs to user id 0, and PostgreSQL serves no data of others: chown -R nobody @/room",
        ),
    ] {
        let expected = format!("n1.yml:7: postgresql.data_dir: {expected}");
        assert_eq!(world.troubles(&nobody, data_dir, ""), [expected]);
    }
}

#[test]
fn files_of_the_log_the_server_and_the_roles_are_looked_at() {
    let Some(nobody) = nobody() else { return };
    let world = World::new();
    let key = world.dir.path().join("open/key.pem");
    fs::write(&key, "").unwrap();
    mode(&key, 0o644);
    let below = |place: &str| format!("put it elsewhere, below {place} for example");
    let shut = "since @/shut is closed to them";
    for (more, expected) in [
        (
            "log: {dir: @/shut/log}\n",
            format!(
                "n1.yml:9: log.dir: user nobody may not write into @/shut/log, {shut}: {}",
                below("/var/log/postgresql")
            ),
        ),
        (
            "log: {dir: @/room/log}\n",
            "n1.yml:9: log.dir: user nobody may not write into @/room/log, which is not there: \
             install -d -m 0700 -o nobody @/room/log"
                .to_owned(),
        ),
        (
            "log: {dir: @/open}\n",
            "n1.yml:9: log.dir: user nobody may not write into @/open: put it elsewhere, below \
             /var/log/postgresql for example, or chown nobody @/open"
                .to_owned(),
        ),
        (
            "  pgpass: @/shut/pgpass\n",
            format!(
                "n1.yml:9: postgresql.pgpass: user nobody may not write @/shut/pgpass, {shut}: {}",
                below("/var/lib/postgresql")
            ),
        ),
        (
            "  parameters:\n    ssl_key_file: @/shut/key\n",
            "n1.yml:10: postgresql.parameters.ssl_key_file: user nobody may not read @/shut/key, since \
             @/shut is closed to them: put it elsewhere, below /etc/pgherd for example"
                .to_owned(),
        ),
        (
            "  parameters:\n    ssl_key_file: @/open/key.pem\n",
            "n1.yml:10: postgresql.parameters.ssl_key_file: PostgreSQL takes no key that everybody may \
             read, @/open/key.pem: chmod 0640 @/open/key.pem"
                .to_owned(),
        ),
        (
            "  bin_dir: @/open\n",
            "n1.yml:9: postgresql.bin_dir: there is no @/open/postgres: install PostgreSQL, or name the \
             directory of its programs"
                .to_owned(),
        ),
    ] {
        assert_eq!(world.troubles(&nobody, "@/room/pg", more), [expected]);
    }
}
