//! Users and passwords, lost tokens, TLS.

use crate::harness::{
    Etcd, acquire, clock, cluster, done, eventually, options, shows, started, within,
};
use etcd_client::{Client, ConnectOptions, Permission, PermissionType};
use pgherd_dcs::{Error, Options, Protocol, Secret, Store};
use pgherd_model::{Op, Span};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;
use tempfile::TempDir;

async fn enable_auth(client: &mut Client) {
    client.user_add("root", "rootpw", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("herd", "secret-word", None).await.unwrap();
    client.role_add("herd").await.unwrap();
    let all = Permission::new(PermissionType::Readwrite, "/service/c/").with_prefix();
    client.role_grant_permission("herd", all).await.unwrap();
    client.user_grant_role("herd", "herd").await.unwrap();
    client.auth_enable().await.unwrap();
}

fn herd(endpoints: Vec<String>, password: &str) -> Options {
    Options {
        username: Some("herd".into()),
        password: Some(Secret::new(password)),
        ..options(endpoints, "a")
    }
}

#[tokio::test]
async fn all_etcds_restart_and_forget_their_tokens() {
    let mut etcd = Etcd::start(3).await;
    etcd.leader(0).await;
    // A user is configured before etcd wants one: that works, and goes on when it does.
    let a = started(herd(etcd.endpoints(), "secret-word")).await;
    let mut lease = a.leader_lease();
    lease.renew(Span::from_secs(5)).await.unwrap();
    enable_auth(&mut etcd.client(0).await).await;
    let renewed = lease.renew(Span::from_secs(5)).await.unwrap();
    let term = acquire(&a).await;

    for member in &mut etcd.members {
        member.kill();
    }
    for member in &mut etcd.members {
        member.start();
    }
    let again = eventually("renewed", async || {
        lease.renew(Span::from_secs(2)).await.ok()
    })
    .await;
    assert_eq!(again.lease, renewed.lease);
    let now = clock();
    eventually("proven anew", async || {
        (a.picture().borrow().fresh_at > now).then_some(())
    })
    .await;
    let status = Op::PutStatus {
        status: Default::default(),
        term,
    };
    eventually("writes work", async || {
        a.run(&status, within(2_000)).await.ok()
    })
    .await;

    let root = ConnectOptions::new().with_user("root", "rootpw");
    let mut other = Client::connect([&etcd.members[1].endpoint], Some(root))
        .await
        .unwrap();
    other.put("/service/c/config", "{}", None).await.unwrap();
    shows(&a, "an event", |picture| {
        picture.cluster.as_ref().unwrap().config.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_named_and_never_shown() {
    let etcd = Etcd::start(1).await;
    enable_auth(&mut etcd.client(0).await).await;
    let wrong = herd(etcd.endpoints(), "guessed-word");
    assert!(!format!("{wrong:?}").contains("guessed-word"));
    let a = Store::start(wrong).unwrap();
    let error = a.run(&Op::Refresh, within(5_000)).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    let picture = shows(&a, "the problem", |picture| {
        let problem = picture.problem.as_deref();
        problem.is_some_and(|text| text.contains("authentication failed"))
    })
    .await;
    let problem = picture.problem.unwrap();
    assert!(!problem.contains("guessed-word") && !error.to_string().contains("guessed-word"));

    // A right password without rights on these keys.
    let mut elsewhere = herd(etcd.endpoints(), "secret-word");
    elsewhere.prefix = "/service/other/".into();
    let b = Store::start(elsewhere).unwrap();
    let error = b.run(&Op::Refresh, within(5_000)).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");
}

/// A CA with a certificate for 127.0.0.1, which is good for servers and clients, as files.
struct Papers {
    dir: TempDir,
}

impl Papers {
    fn make() -> Papers {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::CommonName, "ca of a test");
        let issuer_cert = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let node = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let cert = node.signed_by(&key, &issuer).unwrap();
        let papers = Papers {
            dir: TempDir::new().unwrap(),
        };
        std::fs::write(papers.path("ca.pem"), issuer_cert).unwrap();
        std::fs::write(papers.path("node.pem"), cert.pem()).unwrap();
        std::fs::write(papers.path("node.key"), key.serialize_pem()).unwrap();
        papers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[tokio::test]
async fn tls_needs_the_right_ca_and_a_client_certificate() {
    let papers = Papers::make();
    let argument = |name: &str, file: &str| format!("--{name}={}", papers.path(file).display());
    let arguments = [
        argument("trusted-ca-file", "ca.pem"),
        argument("cert-file", "node.pem"),
        argument("key-file", "node.key"),
        "--client-cert-auth".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let etcd = Etcd::start_with(1, "https", &arguments).await;
    let right = Options {
        protocol: Protocol::Https,
        cacert: Some(papers.path("ca.pem")),
        cert: Some(papers.path("node.pem")),
        key: Some(papers.path("node.key")),
        ..options(etcd.endpoints(), "a")
    };
    let a = started(right.clone()).await;
    done(&a, Op::Refresh).await;
    acquire(&a).await;
    assert!(cluster(&a).leader.is_some());
    // Over HTTP the same certificates count.
    let told = crate::raft::tell(&a, 1).await;
    assert_eq!(crate::raft::voters(&a.raft_states(), 1).await.len(), 1);
    assert!(told.values().all(|told| told.term > 0), "{told:?}");

    let stranger = Papers::make();
    let wrong_ca = Options {
        cacert: Some(stranger.path("ca.pem")),
        ..right.clone()
    };
    let nobody = Options {
        cert: None,
        key: None,
        ..right.clone()
    };
    let plain = Options {
        protocol: Protocol::Http,
        ..right.clone()
    };
    for (options, remedy) in [
        (
            wrong_ca,
            "(etcd3.cacert) does not vouch for this server's certificate",
        ),
        (
            nobody,
            "it may want a client certificate: set etcd3.cert and etcd3.key",
        ),
        (
            plain,
            "it speaks TLS, but etcd3.protocol is http: set etcd3.protocol: https",
        ),
    ] {
        assert_says(options, remedy).await;
    }
    files_that_are_none(&papers, &right);
}

/// What is no certificate or key is named with its setting before etcd is asked.
fn files_that_are_none(papers: &Papers, right: &Options) {
    for (files, complaint) in [
        (
            ("/nowhere/ca.pem", "node.key"),
            "etcd3.cacert: /nowhere/ca.pem cannot be read",
        ),
        (
            ("node.key", "node.key"),
            "holds no CERTIFICATE in PEM format",
        ),
        (("ca.pem", "ca.pem"), "holds no PRIVATE KEY in PEM format"),
    ] {
        let wrong = Options {
            cacert: Some(papers.path(files.0)),
            key: Some(papers.path(files.1)),
            ..right.clone()
        };
        let error = Store::start(wrong).err().unwrap().to_string();
        assert!(error.contains(complaint), "{error}");
        assert!(error.starts_with("etcd settings: etcd3."), "{error}");
    }
}

/// Both ways in which a user meets it: a command's error, and the problem that the agent shows.
async fn assert_says(options: Options, remedy: &str) {
    let store = Store::start(options).unwrap();
    let error = store.run(&Op::Refresh, within(1_000)).await.unwrap_err();
    assert!(error.to_string().contains(remedy), "{error}");
    let mut picture = store.picture();
    let told = picture.wait_for(|picture| {
        let problem = picture.problem.as_deref();
        problem.is_some_and(|problem| problem.contains(remedy))
    });
    let told = tokio::time::timeout(Span::from_secs(10), told).await;
    assert!(told.is_ok(), "no problem shown with {remedy}");
}

#[tokio::test]
async fn tls_with_a_plain_server_says_what_to_change() {
    let papers = Papers::make();
    let etcd = Etcd::start_with(1, "http", &[]).await;
    let wrong = Options {
        protocol: Protocol::Https,
        cacert: Some(papers.path("ca.pem")),
        ..options(etcd.endpoints(), "a")
    };
    let remedy = "it speaks plain HTTP, but etcd3.protocol is https: set etcd3.protocol: http";
    assert_says(wrong, remedy).await;
}
