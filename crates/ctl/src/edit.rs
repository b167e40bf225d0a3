//! `show-config` and `edit-config`: the dynamic configuration, in an editor or by arguments. What is
//! written replaces what was read and nothing else.

use crate::Persona;
use crate::args::{ClusterArgs, EditConfigArgs};
use crate::diff::unified;
use crate::error::CtlError;
use crate::output::{line, say};
use crate::prompt::confirm;
use crate::session::{Seen, Session};
use crate::setting::Setting;
use crate::yaml;
use pgherd_wire::patroni::config::{merge_patch, read_document};
use serde_json::{Map, Value};
use std::io::{Read, Write};
use std::process::Command;

/// `show-config`.
pub(crate) async fn show(session: &Session, args: &ClusterArgs) -> Result<(), CtlError> {
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    match seen.dynamic {
        // patronictl shows nothing: a mistyped name looks like an empty configuration.
        Value::Null if session.persona == Persona::Patronictl => Ok(()),
        Value::Null => Err(no_config(&seen)),
        dynamic => line(&yaml::block(&dynamic)),
    }
}

/// `edit-config`.
pub(crate) async fn run(session: &Session, args: &EditConfigArgs) -> Result<(), CtlError> {
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    let Value::Object(before) = &seen.dynamic else {
        return Err(no_config(&seen));
    };
    let before_text = yaml::block(&seen.dynamic);
    let (after, after_text) = match by_arguments(args, before)? {
        Some(after) => {
            let text = yaml::block(&Value::Object(after.clone()));
            (after, text)
        }
        None => in_editor(&seen.scope, &before_text)?,
    };
    if after == *before {
        return line("Not changed");
    }
    if !args.quiet {
        say(&unified(&before_text, &after_text))?;
    }
    let from_stdin = [&args.apply, &args.replace]
        .iter()
        .any(|file| file.as_deref() == Some("-"));
    if !args.force && from_stdin {
        return line("Use --force option to apply changes");
    }
    if !args.force && !confirm("Apply these changes?")? {
        return Ok(());
    }
    match seen.write_config(&Value::Object(after)).await? {
        true => line("Configuration changed"),
        false => Err(CtlError::told(
            "Config modification aborted due to concurrent changes",
        )),
    }
}

fn no_config(seen: &Seen) -> CtlError {
    CtlError::told(match &seen.cluster.config {
        None => format!(
            "The config key does not exist in the cluster {}",
            seen.scope
        ),
        Some(_) => format!(
            "The config key of the cluster {} is no JSON object: the leader writes back what is in force",
            seen.scope
        ),
    })
}

/// What the arguments make of it; `None`: they say nothing.
fn by_arguments(
    args: &EditConfigArgs,
    before: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, CtlError> {
    let files = args.apply.is_some() || args.replace.is_some();
    if !files && args.set.is_empty() && args.pg.is_empty() {
        return Ok(None);
    }
    let mut after = before.clone();
    if let Some(file) = &args.replace {
        // Merged into nothing: nulls go, as with --apply.
        after = merged(Map::new(), mapping(&given(file)?, file)?);
    }
    if let Some(file) = &args.apply {
        after = merged(after, mapping(&given(file)?, file)?);
    }
    let settings = args.set.iter().map(|text| Setting::parse(text));
    let parameters = args.pg.iter().map(|text| Setting::parse_parameter(text));
    for setting in settings.chain(parameters) {
        setting?.apply(&mut after);
    }
    Ok(Some(after))
}

fn merged(document: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    let mut document = Value::Object(document);
    merge_patch(&mut document, &Value::Object(patch));
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

fn given(file: &str) -> Result<String, CtlError> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(|_| text),
        file => std::fs::read_to_string(file),
    };
    read.map_err(|cause| CtlError::told(format!("{file}: cannot be read: {cause}")))
}

fn mapping(text: &str, source: &str) -> Result<Map<String, Value>, CtlError> {
    let source = match source {
        "-" => "standard input",
        source => source,
    };
    match read_document(text, source).map_err(CtlError::told)? {
        Value::Object(document) => Ok(document),
        _ => Err(CtlError::told(format!(
            "{source}: expected a mapping of settings"
        ))),
    }
}

/// What a person makes of it in an editor: the document, and the text as it was left.
fn in_editor(scope: &str, text: &str) -> Result<(Map<String, Value>, String), CtlError> {
    // Readable by its owner only: commands in it may hold what is secret.
    let mut file = tempfile::Builder::new()
        .prefix(&format!("{scope}-config-"))
        .suffix(".yaml")
        .tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    // By a shell: EDITOR may have arguments.
    let status = Command::new("/bin/sh")
        .args(["-c", &format!("{} \"$1\"", editor()?), "sh"])
        .arg(file.path())
        .status()?;
    if !status.success() {
        return Err(CtlError::told(match status.code() {
            Some(code) => format!("Editor exited with return code {code}"),
            None => format!("Editor ended: {status}"),
        }));
    }
    // Read by its name: an editor may have written another file and renamed it.
    let edited = std::fs::read_to_string(file.path())?;
    Ok((mapping(&edited, "the edited configuration")?, edited))
}

fn editor() -> Result<String, CtlError> {
    let named = std::env::var("EDITOR").ok();
    if let Some(editor) = named.filter(|editor| !editor.trim().is_empty()) {
        return Ok(editor);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let known = ["editor", "vi"].into_iter().find(there);
    known.map(str::to_owned).ok_or_else(|| {
        CtlError::told("EDITOR environment variable is not set. editor or vi are not available")
    })
}
