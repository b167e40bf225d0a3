//! A long benchmark in several parts: what an earlier start of the program has measured is read
//! from its JSON file, if machine and versions are the same, and not measured again.

use super::report::{self, Sample};
use anyhow::{Context as _, Result, bail};
use pgherd_tests::measure::machine::{Facts, PASSING};
use std::io::Write as _;
use std::path::Path;

/// Facts and samples of `file`, joined with the facts of now; without such a file only these.
///
/// # Errors
/// When the file cannot be read, or was measured elsewhere or with other programs.
pub(crate) fn earlier(file: &Path, now: Facts) -> Result<(Facts, Vec<Sample>)> {
    if !file.exists() {
        return Ok((now, Vec::new()));
    }
    let (facts, samples) = read(file)?;
    let others = differing(&facts, &now);
    if !others.is_empty() {
        bail!(
            "{} cannot be continued, it was measured with another {}: name a new file by --json, or \
             keep the old program by --pgherd",
            file.display(),
            others.join("; another ")
        );
    }
    eprintln!("{} runs of {} are kept", samples.len(), file.display());
    Ok((joined(facts, &now), samples))
}

/// Facts and samples of a JSON file.
pub(crate) fn read(file: &Path) -> Result<(Facts, Vec<Sample>)> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let document = serde_json::from_str(&text)
        .with_context(|| format!("{} is no report of this program", file.display()))?;
    Ok(report::parse(&document))
}

/// Writes the JSON file in one go: whenever the program is stopped, the file is whole.
pub(crate) fn write(file: &Path, facts: &Facts, samples: &[Sample]) -> Result<()> {
    let text = serde_json::to_string_pretty(&report::document(facts, samples))?;
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty());
    let mut new = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write beside {}", file.display()))?;
    new.write_all(text.as_bytes())?;
    new.persist(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

/// How many runs there are of an event with a system and its settings.
pub(crate) fn runs(samples: &[Sample], one: &Sample) -> usize {
    let same = |s: &&Sample| s.event == one.event && s.system == one.system && s.label == one.label;
    samples.iter().filter(same).count()
}

/// Facts of both with different values, but for those that are new at every start.
fn differing(old: &Facts, now: &Facts) -> Vec<String> {
    let lasting = now.iter().filter(|(n, _)| !PASSING.contains(&n.as_str()));
    let pairs = lasting.filter_map(|(name, value)| {
        let (_, before) = old.iter().find(|(n, _)| n == name)?;
        (before != value).then(|| format!("{name} (\"{before}\", now \"{value}\")"))
    });
    pairs.collect()
}

/// All facts of both; where they differ, both values.
pub(crate) fn joined(mut old: Facts, more: &Facts) -> Facts {
    for (name, value) in more {
        match old.iter_mut().find(|(n, _)| n == name) {
            None => old.push((name.clone(), value.clone())),
            Some((_, known)) if known.split("; ").any(|part| part == value) => {}
            Some((_, known)) => *known = format!("{known}; {value}"),
        }
    }
    old
}

#[cfg(test)]
mod tests {
    use super::super::report::System;
    use super::*;

    fn facts(pgherd: &str, date: &str) -> Facts {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![pair("date", date), pair("pgherd", pgherd)]
    }

    fn sample(label: &str) -> Sample {
        Sample {
            event: "e1".to_owned(),
            system: System::Pgherd,
            label: label.to_owned(),
            outcome: Ok(vec![("gap".to_owned(), 1.0)]),
        }
    }

    #[test]
    fn a_run_goes_on_where_it_was_stopped_if_the_programs_are_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ha.json");
        let (none, samples) = earlier(&file, facts("1", "Monday")).expect("no file is a beginning");
        assert_eq!((none, samples.len()), (facts("1", "Monday"), 0));

        let done = [sample("L 2 s"), sample("L 5 s"), sample("L 2 s")];
        write(&file, &facts("1", "Monday"), &done).expect("written");
        let (all, samples) = earlier(&file, facts("1", "Friday")).expect("the same programs");
        assert_eq!(all, facts("1", "Monday; Friday"));
        assert_eq!(runs(&samples, &sample("L 2 s")), 2);
        assert_eq!(runs(&samples, &sample("L 5 s")), 1);
        assert_eq!(runs(&samples, &sample("")), 0);

        let error = earlier(&file, facts("2", "Friday")).expect_err("another program");
        let error = error.to_string();
        assert!(error.contains("pgherd (\"1\", now \"2\")"), "{error}");
    }
}
