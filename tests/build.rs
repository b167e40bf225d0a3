//! Lists the scenarios, so that a new file is a new test.

use std::fmt::Write as _;
use std::path::Path;

/// Played at every change, besides all of them in the simulator: of each kind of fault one that is short, and
/// one in a synchronous mode. A minute in all, two at a time. The others are left to `cargo xtask test --all`.
const OFTEN: [&str; 8] = [
    "agent-killed",
    "crash-hand-over",
    "disk-full",
    "failover-to-named",
    "node-killed-shortest-lease",
    "one-way-from-etcd",
    "postmaster-frozen",
    "synchronous-failover",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=scenarios");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&folder).expect("the folder of scenarios");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a file").file_name())
        .filter_map(|file| Some(file.to_str()?.strip_suffix(".scn")?.to_owned()))
        .collect();
    names.sort();
    let mut code = String::new();
    for name in &names {
        let rare = match OFTEN.contains(&name.as_str()) {
            true => "",
            false => "#[ignore = \"played by cargo xtask test --all\"]\n",
        };
        let (test, path) = (name.replace('-', "_"), folder.join(name));
        let path = path.display();
        let _ = writeln!(
            code,
            "#[test]\n{rare}fn {test}() {{\n    pgherd_tests::scenario::test(\"{test}\", \
             \"tests/scenarios/{name}.scn\", include_str!(\"{path}.scn\"));\n}}"
        );
    }
    for name in OFTEN {
        assert!(names.iter().any(|it| it == name), "no scenario {name}");
    }
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("scenarios.rs"), code).expect("write the list");
}
