//! What is said of a unit before it is written.

use super::*;

const NODE: &str = "\
scope: demo
name: n1
restapi: {listen: '127.0.0.1:8008'}
etcd3: {hosts: '127.0.0.1:2379'}
postgresql:
  listen: 127.0.0.1:5432
  data_dir: /d
  authentication: {superuser: {username: p}, replication: {username: r}}
";

/// For whoever runs the test.
fn troubles_of(config: &Path, variables: &[String]) -> Vec<String> {
    let user = User::from_uid(Uid::current()).unwrap().unwrap();
    let plan = Plan {
        loaded: &loaded(config, variables).unwrap(),
        user: &user,
        program: &std::env::current_exe().unwrap(),
        config,
        variables,
    };
    plan.troubles()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory that everybody may look into.
fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    mode(dir.path(), 0o755);
    dir
}

#[test]
fn variables_of_the_shell_are_told_of() {
    let dir = open_dir();
    let file = dir.path().join("n1.yml");
    fs::write(&file, NODE).unwrap();
    assert_eq!(troubles_of(&file, &[]), Vec::<String>::new());
    let variables = ["PATRONI_NAME".to_owned(), "PATRONI_SCOPE".to_owned()];
    let troubles = troubles_of(&file, &variables);
    let [trouble] = troubles.as_slice() else {
        panic!("{troubles:?}")
    };
    let words = "the unit will not have PATRONI_NAME, PATRONI_SCOPE: put them into the file";
    assert!(trouble.starts_with(words), "{trouble}");
    fs::write(&file, NODE.replace("scope: demo\n", "")).unwrap();
    let error = loaded(&file, &variables[1..]).unwrap_err().to_string();
    assert!(
        error.contains("scope") && error.contains("will not have PATRONI_SCOPE: put it"),
        "{error}"
    );
}

#[test]
fn paths_from_here_are_others_for_the_unit() {
    let dir = open_dir();
    let file = dir.path().join("n1.yml");
    let text = NODE
        .replace("/d\n", "data/pg\n  bin_dir: bin\n  pgpass: ~/pgpass\n")
        .replace(
            "{username: p}",
            "{username: p, sslcert: c.pem, sslrootcert: system}",
        )
        .replace("8008'}", "8008', cafile: ca.pem}")
        + "log: {dir: logs}\n";
    fs::write(&file, text).unwrap();
    let troubles = troubles_of(&file, &[]);
    let relative = troubles
        .iter()
        .filter(|it| it.contains("write the whole path"));
    let keys: Vec<&str> = relative
        .map(|trouble| trouble.split(':').next().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "postgresql.data_dir",
            "postgresql.bin_dir",
            "postgresql.pgpass",
            "log.dir",
            "restapi.cafile",
            "postgresql.authentication.superuser.sslcert",
        ]
    );
    let here = std::path::absolute("data/pg").unwrap();
    let remedy = format!("write the whole path, {}", here.display());
    assert!(
        troubles.iter().any(|it| it.ends_with(&remedy)),
        "{troubles:?}"
    );
}

#[test]
fn secrets_that_everybody_may_read_are_found() {
    let dir = open_dir();
    let file = dir.path().join("n1.yml");
    let open = |config: &Path| {
        let troubles = troubles_of(config, &[]);
        let open = troubles.into_iter().filter(|it| it.contains("passwords"));
        open.collect::<Vec<_>>()
    };
    let more = |text: &str| format!("{NODE}{text}\n");
    for text in [
        more("ctl: {authentication: {username: a, password: b}}"),
        more("ctl: {keyfile_password: b}"),
        NODE.replace("8008'", "8008', keyfile_password: b"),
        NODE.replace("{username: r}", "{username: r, sslpassword: b}"),
        NODE.replace(
            "{username: r}",
            "{username: r}, rewind: {username: w, password: b}",
        ),
        NODE.replace("'127.0.0.1:2379'", "['u:b@127.0.0.1:2379']"),
    ] {
        fs::write(&file, &text).unwrap();
        mode(&file, 0o644);
        let found = open(&file);
        let remedy = format!("chmod 0600 {}", file.display());
        assert!(
            found.len() == 1 && found[0].ends_with(&remedy),
            "{text}: {found:?}"
        );
        mode(&file, 0o640);
        assert_eq!(open(&file), Vec::<String>::new());
        mode(&file, 0o644);
        mode(dir.path(), 0o750);
        assert_eq!(open(&file), Vec::<String>::new(), "nobody comes to it");
        mode(dir.path(), 0o755);
    }
    // Each file of a directory.
    fs::write(&file, NODE).unwrap();
    let secrets = dir.path().join("passwords of n1.yaml");
    fs::write(
        &secrets,
        "ctl: {authentication: {username: a, password: b}}\n",
    )
    .unwrap();
    mode(&secrets, 0o644);
    let found = open(dir.path());
    let remedy = format!("chmod 0600 '{}'", secrets.display());
    assert!(found.len() == 1 && found[0].ends_with(&remedy), "{found:?}");
}

#[test]
fn a_file_of_a_directory_that_the_user_may_not_read_is_named() {
    let (Ok(Some(nobody)), true) = (User::from_name("nobody"), Uid::current().is_root()) else {
        return;
    };
    let dir = open_dir();
    let secrets = dir.path().join("secrets.yml");
    fs::write(dir.path().join("n1.yml"), NODE).unwrap();
    fs::write(&secrets, "name: n2\n").unwrap();
    mode(&secrets, 0o600);
    let plan = Plan {
        loaded: &loaded(dir.path(), &[]).unwrap(),
        user: &nobody,
        program: Path::new("/bin/sh"),
        config: dir.path(),
        variables: &[],
    };
    let troubles = plan.troubles();
    let expected = format!(
        "user nobody may not read {0}: chown nobody {0}",
        secrets.display()
    );
    assert_eq!(troubles, [expected]);
}

#[test]
fn words_are_quoted_for_a_shell() {
    for (text, word) in [
        ("pgherd-demo.service", "pgherd-demo.service"),
        ("pgherd-a\\x20b.service", "'pgherd-a\\x20b.service'"),
        ("it's", "'it'\\''s'"),
        ("", "''"),
    ] {
        assert_eq!(shell(text), word);
    }
}
