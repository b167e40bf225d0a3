//! The workspace's text files.

use anyhow::{Context, Result};
use std::path::Path;

/// Never looked into: built, not written. In a worktree of git `.git` is a file.
const SKIPPED: [&str; 3] = [".git", "target", ".data"];

/// Larger ones are data.
const LARGEST: u64 = 2_000_000;

/// A text file.
pub(super) struct File {
    /// From the workspace's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    /// Is it a Rust source?
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All of them, sorted by path.
pub(super) fn text_files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        }
        // Others may write and remove files meanwhile, and what is no text is no matter.
        let small = entry.metadata().is_ok_and(|meta| meta.len() <= LARGEST);
        if kind.is_file()
            && small
            && let Ok(text) = std::fs::read_to_string(entry.path())
        {
            files.push(File { path, text });
        }
    }
    Ok(())
}

/// Does `word` occur in `text` as a whole word?
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(has_word("rule lock_free: healthiest", "lock_free"));
        assert!(!has_word("rule lock_freed", "lock_free"));
        assert!(!has_word("a_lock_free", "lock_free"));
        assert!(has_word("lock_freed lock_free", "lock_free"));
    }
}
