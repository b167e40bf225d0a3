//! A malformed scenario names file, line and what was expected.

use pgherd_scenario::parse;

const MEMBERS: &str =
    "a member (`primary`, `a replica`, `the other replica`, `n1` to `n3` or a name given by `let`)";

/// The error of a scenario whose head is in order, and whose last line, the sixth, is this.
fn error_of(line: &str) -> String {
    let text = format!(
        "# A story.\ncluster of 3, lease 5s\nstart\nlet old be primary\nexpect a primary within 30s\n{line}\n"
    );
    match parse("t.scn", &text) {
        Ok(_) => "nothing".into(),
        Err(malformed) => malformed.to_string(),
    }
}

const KILLED: &str = "`agent`, `guard`, `postmaster`, `postgres`, `node` or `etcd`";

const SETTINGS: &str = "a setting (`lease`, `ttl`, `loop`, `retry`, `hang`, `start timeout`, `lag limit`, \
                        `asynchronous`, `synchronous`, `strictly synchronous`, `guard`, `crash handover`, \
                        `copy anew` or `rewind`)";

/// A line, what is expected in it, and what is found.
const LINES: &[(&str, &str, &str)] = &[
    ("kill", KILLED, "the end of the line"),
    ("kill nodes of old", KILLED, "`nodes`"),
    ("kill node old", "`of`", "`old`"),
    ("kill node of olt", MEMBERS, "`olt`"),
    ("kill node of n4", MEMBERS, "`n4`"),
    ("kill node of", MEMBERS, "the end of the line"),
    ("kill node of old now", "the end of the line", "`now`"),
    (
        "kill etcd",
        "`leader`, `minority` or `majority`",
        "the end of the line",
    ),
    ("start", "`agent`, `node` or `etcd`", "the end of the line"),
    (
        "freeze node of old",
        "`agent`, `guard`, `postmaster`, `walreceiver` or `disk`",
        "`node`",
    ),
    ("fill the disk of old", "`disk`", "`the`"),
    (
        "kill node of the replica",
        "`primary` or `other`",
        "`replica`",
    ),
    ("kill node of a primary", "`replica`", "`primary`"),
    (
        "wait",
        "a time such as 500ms, 7s or 2m",
        "the end of the line",
    ),
    ("wait 5", "a time such as 500ms, 7s or 2m", "`5`"),
    ("wait 5 s", "a time such as 500ms, 7s or 2m", "`5`"),
    ("wait 5h", "a time such as 500ms, 7s or 2m", "`5h`"),
    ("wait s", "a time such as 500ms, 7s or 2m", "`s`"),
    ("writers", "`run` or `stop`", "the end of the line"),
    (
        "let old be n1",
        "a new name",
        "`old`, which line 4 has given",
    ),
    ("let n2 be n1", "a name of small letters", "`n2`"),
    ("let primary be n1", "a name of small letters", "`primary`"),
    ("let New be n1", "a name of small letters", "`New`"),
    ("let new n1", "`be`", "`n1`"),
    ("cut old", "`from`", "the end of the line"),
    ("cut old to etcd", "`from`", "`to`"),
    ("cut packets old to etcd", "`from`", "`old`"),
    ("cut packets from old from etcd", "`to`", "`from`"),
    (
        "cut etcd from everybody",
        "a member at one end of the cut",
        "none",
    ),
    (
        "cut old from old",
        "two ends of the cut",
        "the same one twice",
    ),
    ("heal old", "`network`", "`old`"),
    ("switchover old", "`to`", "`old`"),
    ("set", SETTINGS, "the end of the line"),
    ("set leese 5s", SETTINGS, "`leese`"),
    ("set lease 5s,", SETTINGS, "the end of the line"),
    ("set lease 1s", "2s or more", "`1s`"),
    ("set lease 2500ms", "whole seconds such as 5s", "`2500ms`"),
    (
        "set lease 5s, lease 6s",
        "each setting once",
        "`lease` again",
    ),
    (
        "set synchronous, asynchronous",
        "each setting once",
        "`asynchronous` again",
    ),
    ("set lag limit 5", "a size such as 64kB or 1MB", "`5`"),
    ("set guard on", "`automatic`, `required` or `off`", "`on`"),
    ("set parameter max_connections 5", "`to`", "`5`"),
    ("seed 5", "a statement that may follow `start`", "`seed`"),
    (
        "cluster of 3",
        "a statement that may follow `start`",
        "`cluster`",
    ),
    (
        "expect a primary",
        "`within` or `for`",
        "the end of the line",
    ),
    ("expect a primary in 5s", "`within` or `for`", "`in`"),
    (
        "expect a leader within 5s",
        "`primary`, `whole` or `replica`",
        "`leader`",
    ),
    ("expect a primary other old within 5s", "`than`", "`old`"),
    ("expect writes for 5s", "`within`", "`for`"),
    ("expect no writes within 5s", "`for`", "`within`"),
    ("expect no gap above 1s for 5s", "`in`", "`above`"),
    (
        "expect no acknowledged row lost within 5s",
        "the end of the line",
        "`within`",
    ),
    (
        "expect no rows lost",
        "`primary`, `writes`, `gap`, `acknowledged` or `pending`",
        "`rows`",
    ),
    ("expect old be primary within 5s", "`to`", "`be`"),
    (
        "expect old to be replica within 5s",
        "`primary`, `a replica`, `read-only` or `down`",
        "`replica`",
    ),
    ("expect timeline two within 5s", "a number", "`two`"),
    ("expect pending restart of old within 5s", "`on`", "`of`"),
];

#[test]
fn a_malformed_line_names_what_could_have_stood_there() {
    for (line, expected, found) in LINES {
        assert_eq!(
            error_of(line),
            format!("t.scn:6: expected {expected}, found {found}"),
            "{line}"
        );
    }
}

#[test]
fn a_word_that_begins_no_statement_is_told_all_that_do() {
    assert_eq!(
        error_of("reboot old"),
        "t.scn:6: expected a statement (`cluster`, `seed`, `only`, `known`, `start`, `let`, `wait`, `writers`, `kill`, \
         `freeze`, `thaw`, `fill`, `clear`, `cut`, `heal`, `switchover`, `failover`, `restart`, `reinitialize`, \
         `upgrade`, `pause`, `resume`, `set` or `expect`), found `reboot`"
    );
    assert_eq!(
        error_of("expect olt to be primary within 5s"),
        format!(
            "t.scn:6: expected a condition (`a primary`, `no primary`, `a whole cluster`, `writes`, \
             `no writes`, `no gap`, `no acknowledged row lost`, `timeline`, `pending restart`) or {MEMBERS}, \
             found `olt`"
        )
    );
}

#[test]
fn a_malformed_head_is_named_too() {
    for (text, expected) in [
        ("", "t.scn:1: expected `cluster`, found the end of the file"),
        (
            "# only\n\n",
            "t.scn:2: expected `cluster`, found the end of the file",
        ),
        (
            "start\n",
            "t.scn:1: expected `cluster` in the first statement, found `start`",
        ),
        (
            "cluster of many\n",
            "t.scn:1: expected a number of members from 2 to 7, found `many`",
        ),
        (
            "cluster of 9\n",
            "t.scn:1: expected a number of members from 2 to 7, found `9`",
        ),
        (
            "cluster of 3 lease 5s\n",
            "t.scn:1: expected the end of the line, found `lease`",
        ),
        (
            "cluster of 3\ncluster of 3\n",
            "t.scn:2: expected one cluster, found a second `cluster`",
        ),
        (
            "cluster of 3\nseed x\n",
            "t.scn:2: expected a whole number, found `x`",
        ),
        (
            "cluster of 3\nonly real\n",
            "t.scn:2: expected `because`, found the end of the line",
        ),
        (
            "cluster of 3\nknown to fail\n",
            "t.scn:2: expected `because`, found the end of the line",
        ),
        (
            "cluster of 3\nonly real because\n",
            "t.scn:2: expected a reason, found the end of the line",
        ),
        (
            "cluster of 3\nwriters run\n",
            "t.scn:2: expected `start` before anything else happens, found `writers`",
        ),
        (
            "cluster of 3\n",
            "t.scn:1: expected `start`, found the end of the file",
        ),
        (
            "cluster of 3\nstart\nwait 5s\n",
            "t.scn:3: expected `expect`, found the end of the file",
        ),
    ] {
        let error = parse("t.scn", text).err();
        assert_eq!(
            error.map(|it| it.to_string()).as_deref(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn what_is_in_order_is_read() {
    let text = "# Two lines\n# of story.\ncluster of 3, lease 5s, synchronous, guard required # here too\n\
                only real because agents, and nothing else, are upgraded\nseed 9\n\nstart\n\
                expect a primary within 30s\n";
    let scenario = match parse("t.scn", text) {
        Ok(scenario) => scenario,
        Err(malformed) => panic!("{malformed}"),
    };
    assert_eq!(scenario.story, "Two lines of story.");
    assert_eq!(
        scenario.only_real.as_deref(),
        Some("agents, and nothing else, are upgraded")
    );
    assert_eq!((scenario.seed, scenario.nodes), (9, 3));
    assert_eq!(scenario.settings.len(), 3);
    assert_eq!(scenario.lines[1].number, 8);
    assert_eq!(scenario.lines[1].text, "expect a primary within 30s");
}
