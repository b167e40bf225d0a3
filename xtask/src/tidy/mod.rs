//! The rules of ARCHITECTURE.md that a compiler does not check, as a check: `cargo xtask tidy`, and
//! a test.

mod brains;
mod coverage;
mod layers;
mod papers;
mod sizes;
mod tree;

use anyhow::Result;
use std::path::Path;

/// Every broken rule below `root`, one line each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = tree::text_files(root)?;
    let packages = layers::packages(root)?;
    let mut broken = layers::check(&packages);
    broken.extend(sizes::check(&files));
    broken.extend(brains::check(&files, &packages));
    broken.extend(coverage::check(&files));
    broken.extend(papers::check(&files));
    Ok(broken)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_holds() {
        let broken = super::check(&crate::run::root()).unwrap();
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    }
}
