use std::collections::BTreeMap;
fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap();
    let env: BTreeMap<String, String> = std::env::vars()
        .filter(|(k, _)| k.starts_with("PATRONI_"))
        .collect();
    match pgherd_wire::patroni::config::load(path.as_ref(), &env) {
        Ok(l) => {
            for w in &l.warnings {
                println!("W {w}");
            }
            println!("{}", l.raw);
            println!("{:#?}", l.node);
        }
        Err(e) => println!("E {e}"),
    }
}
