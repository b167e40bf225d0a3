//! TLS to the server, as libpq's sslmode means it.

use crate::lab::*;
use pgherd_instance::{Error, Instance, StartAs};
use std::path::Path;
use std::process::Command;

/// A self-signed certificate for 127.0.0.1.
fn certificate(dir: &Path, name: &str) -> (String, String) {
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
