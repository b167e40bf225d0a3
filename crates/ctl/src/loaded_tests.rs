//! What the agent has, and what a person reads: one file, edited since, or another one.

use super::*;
use serde_json::json;

fn given(path: &str, value: Value, place: &str) -> Given {
    Given {
        path: path.split('.').map(str::to_owned).collect(),
        value,
        place: place.into(),
        from_environment: place.starts_with("environment"),
    }
}

const SALT: &str = "salt";

fn agent() -> Configured {
    let given = [
        given("scope", json!("demo"), "/c/n1.yml:1"),
        given("namespace", json!("/a"), "/c/n1.yml:2"),
        given("log.level", json!("INFO"), "/c/n1.yml:3"),
        given("tags.nosync", json!(true), "/c/n1.yml:4"),
        given("tags.own", json!("x"), "/c/n1.yml:5"),
        given(
            "restapi.authentication.password",
            json!("old"),
            "/c/n1.yml:6",
        ),
        given(
            "log.level",
            json!("ERROR"),
            "environment variable PATRONI_LOG_LEVEL",
        ),
    ];
    Configured {
        file: Some("/c/n1.yml".into()),
        salt: SALT.into(),
        given: given.iter().map(|given| tell(given, SALT)).collect(),
        ..Configured::default()
    }
}

fn compared(file: &str, own: &[Given]) -> Compared {
    Compared::new(("demo", "n1"), agent(), Some(Path::new(file)), own)
}

/// What is said about a setting.
fn said(compared: &Compared, name: &str) -> Option<String> {
    let keys: Vec<&str> = name.split('.').collect();
    let within = |path: &[String]| {
        let begins = path.len() >= keys.len() && path.iter().zip(&keys).all(|(a, b)| a == b);
        begins.then_some(keys.len())
    };
    compared.differs(within).map(|unloaded| unloaded.told())
}

/// As it is loaded.
fn unchanged() -> Vec<Given> {
    let mut own = vec![
        given("scope", json!("demo"), "/c/n1.yml:1"),
        given("namespace", json!("/a"), "/c/n1.yml:2"),
        given("log.level", json!("INFO"), "/c/n1.yml:9"),
        given("tags.nosync", json!(true), "/c/n1.yml:4"),
        given("tags.own", json!("x"), "/c/n1.yml:5"),
    ];
    own.push(given(
        "restapi.authentication.password",
        json!("old"),
        "/c/n1.yml:6",
    ));
    own
}

const AT: &str = "(since 1970-01-01T00:00:00.000Z)";

#[test]
fn what_was_edited_since_is_told_with_what_to_do() {
    let same = compared("/c/n1.yml", &unchanged());
    assert_eq!(same.differs(|_| Some(0)), None);
    let mut own = unchanged();
    own[1].value = json!("/b");
    own[2].value = json!("DEBUG");
    own.remove(3);
    own[4].value = json!("new");
    own.push(given("postgresql.database", json!("db"), "/c/n1.yml:8"));
    let edited = compared("/c/n1.yml", &own);
    let reload = format!("{AT}; reload: pgherd ctl reload demo n1");
    for (name, expected) in [
        (
            "log.level",
            format!("/c/n1.yml:9 (DEBUG): the agent has INFO {reload}"),
        ),
        (
            "tags.nosync",
            format!("/c/n1.yml (not set): the agent has on {reload}"),
        ),
        (
            "tags",
            format!("/c/n1.yml (not set): the agent has {{\"nosync\":true}} {reload}"),
        ),
        (
            "postgresql.database",
            format!("/c/n1.yml:8 (db): the agent has nothing there {reload}"),
        ),
        (
            "restapi.authentication.password",
            format!("/c/n1.yml:6 (********): the agent has another one {reload}"),
        ),
        (
            "namespace",
            format!(
                "/c/n1.yml:2 (/b): the agent has /a {AT}; it takes effect when the agent is started anew"
            ),
        ),
    ] {
        assert_eq!(said(&edited, name), Some(expected), "{name}");
    }
    assert_eq!(said(&edited, "tags.own"), None);
    assert_eq!(said(&edited, "scope"), None);
}

#[test]
fn a_reload_that_failed_is_told() {
    let mut own = unchanged();
    own[2].value = json!("DEBUG");
    let mut edited = compared("/c/n1.yml", &own);
    edited.agent.refusal = Some(pgherd_wire::patroni::config::Refusal {
        at: Default::default(),
        reason: "n1.yml:7: tags: wrong".into(),
    });
    let said = said(&edited, "log.level").unwrap();
    let last = "; its last reload, at 1970-01-01T00:00:00.000Z, failed: n1.yml:7: tags: wrong";
    assert!(said.ends_with(last), "{said}");
}

/// The file of a person need not be whole, and a reload would not help.
#[test]
fn another_file_is_none_of_the_agent() {
    let own = [
        given("log.level", json!("ERROR"), "c.yml:1"),
        given("namespace", json!("/b"), "c.yml:2"),
    ];
    let other = compared("c.yml", &own);
    let expected = format!("c.yml:2 (/b): the agent has /a {AT}; its file is /c/n1.yml");
    assert_eq!(said(&other, "namespace"), Some(expected));
    // As the agent has it, from its environment.
    assert_eq!(said(&other, "log.level"), None);
    assert_eq!(said(&other, "tags"), None);
    let mut alone = compared("c.yml", &own);
    alone.agent.file = None;
    let said = said(&alone, "namespace").unwrap();
    assert!(
        said.ends_with("; it has no file, only its environment"),
        "{said}"
    );
}

#[test]
fn the_environment_of_a_shell_does_not_count() {
    let variable = "environment variable PATRONI_LOG_LEVEL";
    let of_shell = |level: &str| {
        let mut own = unchanged();
        own.push(given("log.level", json!(level), variable));
        let compared = compared("/c/n1.yml", &own);
        assert_eq!(said(&compared, "log.level"), None);
        compared.of_shell(|_| Some(0))
    };
    let told = of_shell("DEBUG");
    let layer = Layer {
        source: variable.into(),
        value: json!("DEBUG"),
    };
    assert_eq!(told, [(layer, OF_SHELL.to_owned())]);
    assert_eq!(of_shell("ERROR"), [], "the agent has it, too");
}
