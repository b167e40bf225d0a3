//! `show-config` and `edit-config`: the dynamic configuration, in an editor or by arguments. What is
//! written replaces what was read and nothing else.

use crate::Persona;
use crate::args::{ClusterArgs, EditConfigArgs};
use crate::diff::unified;
use crate::editor::Draft;
use crate::error::CtlError;
use crate::output::line;
use crate::pager::page;
use crate::prompt::confirm;
use crate::session::{Seen, Session};
use crate::setting::Setting;
use crate::yaml;
use pgherd_wire::patroni::config::{merge_patch, read_document};
use serde_json::{Map, Value};
use std::io::Read;

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
    if let Some(after) = by_arguments(args, before)? {
        let text = yaml::block(&Value::Object(after.clone()));
        return put(&seen, args, (before, before_text.as_str()), (after, text)).await;
    }
    let draft = Draft::edit(&seen.scope, &before_text)?;
    let edited = draft
        .text()
        .and_then(|text| Ok((mapping(&text, "the edited configuration")?, text)));
    let outcome = match edited {
        Ok(edited) => put(&seen, args, (before, before_text.as_str()), edited).await,
        Err(error) => Err(error),
    };
    // Whatever it was, a person's work is not lost with it.
    outcome.map_err(|error| draft.kept(error))
}

/// Shows what would change, asks, and writes it.
async fn put(
    seen: &Seen,
    args: &EditConfigArgs,
    (before, before_text): (&Map<String, Value>, &str),
    (after, after_text): (Map<String, Value>, String),
) -> Result<(), CtlError> {
    if after == *before {
        return match args.quiet {
            true => Ok(()),
            false => line("Not changed"),
        };
    }
    if !args.quiet {
        page(&unified(before_text, &after_text))?;
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
