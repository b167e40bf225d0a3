//! TLS to the server, as libpq's sslmode means it.

use crate::lab::*;
use pgherd_instance::{Error, Instance, Secret, StartAs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A self-signed certificate for 127.0.0.1.
pub(crate) fn certificate(dir: &Path, name: &str) -> (String, String) {
    let path = |ending: &str| dir.join(format!("{name}.{ending}")).display().to_string();
    let status = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        ])
        .args(["-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", &path("key"), "-out", &path("crt")])
        .stderr(std::process::Stdio::null())
        .status()
        .expect("openssl is installed (it comes with postgresql-common)");
    assert!(status.success());
    (path("crt"), path("key"))
}

#[test]
fn modes_of_encryption() {
    run("encrypted::modes_of_encryption", async |lab| {
        let (cert, key) = certificate(&lab.home, "server");
        let (other, _) = certificate(&lab.home, "other");
        let mut options = lab.options("a");
        options.bootstrap_pg_hba = Vec::new();
        let mut config = Lab::server();
        for (name, value) in [
            ("ssl", "on"),
            ("ssl_cert_file", &cert),
            ("ssl_key_file", &key),
        ] {
            config.parameters.insert(name.to_owned(), value.to_owned());
        }
        config.pg_hba = Some(vec![
            "hostssl all all 127.0.0.1/32 scram-sha-256".to_owned(),
        ]);
        let node = Instance::new(options.clone(), config.clone()).unwrap();
        node.initdb(SOON).await.unwrap();
        start(&node, &StartAs::Primary).await;
        // Nothing said: encrypted, since the server offers it, with channel binding.
        node.look().await.unwrap();
        for (mode, root, good) in [
            ("require", None, true),
            ("verify-ca", Some(&cert), true),
            ("verify-full", Some(&cert), true),
            ("verify-full", Some(&other), false),
            ("require", Some(&other), false),
            ("verify-ca", None, false),
            ("disable", None, false),
        ] {
            let mut options = options.clone();
            let settings = &mut options.superuser.settings;
            settings.insert("sslmode".to_owned(), mode.to_owned());
            if let Some(root) = root {
                settings.insert("sslrootcert".to_owned(), root.to_owned());
            }
            let node = Instance::new(options, config.clone()).unwrap();
            match node.look().await {
                Ok(_) => assert!(good, "{mode} {root:?} must not work"),
                Err(Error::Connect { reason, .. }) => assert!(!good, "{mode} {root:?}: {reason}"),
                Err(Error::Config { key, .. }) => {
                    assert!(root.is_none() && key.contains("sslrootcert"))
                }
                Err(e) => panic!("{mode}: {e}"),
            }
        }
        stop(&node).await;
    });
}

/// The key of a client's certificate has a password: libpq's programs get it, and nobody can read it
/// in a list of processes.
#[test]
fn the_password_of_a_key_reaches_every_program() {
    let name = "encrypted::the_password_of_a_key_reaches_every_program";
    run(name, async |lab| {
        let (cert, key) = certificate(&lab.home, "server");
        let (known, open_key) = certificate(&lab.home, "client");
        let locked = lab.home.join("client.locked").display().to_string();
        let status = Command::new("openssl")
            .args(["pkey", "-aes256", "-passout", "pass:key secret"])
            .args(["-in", &open_key, "-out", &locked])
            .status();
        assert!(status.unwrap().success());
        std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o600)).unwrap();
        let settings = [
            ("sslmode", "require"),
            ("sslcert", known.as_str()),
            ("sslkey", locked.as_str()),
        ];
        let node = |name: &str| {
            let mut options = lab.options(name);
            let rewind = options.rewind.as_mut().unwrap();
            for role in [&mut options.replication, rewind] {
                role.sslpassword = Some(Secret::new("key secret"));
                role.settings = settings.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            }
            let mut config = Lab::server();
            for (name, value) in [
                ("ssl", "on"),
                ("ssl_cert_file", &cert),
                ("ssl_key_file", &key),
                ("ssl_ca_file", &known),
            ] {
                config.parameters.insert(name.to_owned(), value.to_owned());
            }
            config.pg_hba = Some(vec![
                "host all postgres 127.0.0.1/32 scram-sha-256".to_owned(),
                "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca".to_owned(),
                "hostssl replication all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca"
                    .to_owned(),
            ]);
            Instance::new(options, config).unwrap()
        };
        let a = node("a");
        a.initdb(SOON).await.unwrap();
        start(&a, &StartAs::Primary).await;
        a.post_bootstrap(SOON).await.unwrap();
        let b = node("b");
        let source_a = source(&a);
        let running = eventually("pg_basebackup is there", async || {
            arguments(&lab.home, "pg_basebackup")
        });
        let (copied, seen) = tokio::join!(b.basebackup(&source_a, SOON), running);
        copied.unwrap();
        assert!(
            seen.contains("--dbname=") && !seen.contains("secret"),
            "{seen}"
        );
        follow(&b, &a).await;

        // They part, and a comes back by pg_rewind.
        b.promote(SOON).await.unwrap();
        b.checkpoint(SOON).await.unwrap();
        stop(&a).await;
        a.rewind(&source(&b), SOON).await.unwrap();
        follow(&a, &b).await;
        assert_eq!(left_behind(&lab.home), Vec::<String>::new());
    });
}

/// Files that were made for one program only.
fn left_behind(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with("tmp")).collect()
}

/// The command line of a program that works below this directory.
fn arguments(home: &Path, program: &str) -> Option<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = line.contains(program) && line.contains(home.to_str()?);
            ours.then_some(line)
        })
}
