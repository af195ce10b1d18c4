//! The rule for names of managed tables, and how names are compared and quoted.

use std::fmt;

use crate::error::{Error, Result};

/// The table that holds one row for each managed table.
pub const METADATA_TABLE: &str = "_metadata";

const LENGTH_MAX: usize = 255;

/// A valid name of a managed table: letters, digits and `_`, at most 255 characters, not beginning with `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName(String);

impl TableName {
    /// Checks `name` against the rule.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`], naming the rule that `name` breaks.
    pub fn parse(name: &str) -> Result<Self> {
        let rule = if name.is_empty() {
            "it must not be empty"
        } else if name.starts_with('_') {
            "it must not begin with `_`, which is reserved"
        } else if name.chars().any(|c| !c.is_ascii_alphanumeric() && c != '_') {
            "only letters, digits and `_` are allowed"
        } else if name.len() > LENGTH_MAX {
            "at most 255 characters are allowed"
        } else {
            return Ok(Self(name.to_owned()));
        };
        let shown: String = name.chars().take(64).collect();
        Err(Error::invalid(format!("invalid table name {shown:?}: {rule}")))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What names are compared by: DuckDB matches them without regard to case.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, rule: Option<&str>) {
        match (TableName::parse(name), rule) {
            (Ok(parsed), None) => assert_eq!(parsed.as_str(), name),
            (Err(error), Some(rule)) => assert!(error.message().contains(rule), "{error}"),
            (result, _) => panic!("{name:?}: {result:?}"),
        }
    }

    #[test]
    fn names_follow_the_rule() {
        check("purchases", None);
        check("1abc", None);
        check("select", None);
        check(&"a".repeat(255), None);
        check("", Some("empty"));
        check("_metadata", Some("reserved"));
        check("a b", Some("only letters"));
        check("a\n", Some("only letters"));
        check("é", Some("only letters"));
        check("a\"; DROP TABLE x", Some("only letters"));
        check(&"a".repeat(256), Some("255"));
    }
}
