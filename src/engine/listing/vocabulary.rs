//! The words of DuckDB's SQL: its keywords and the functions that this engine has.

use std::collections::BTreeSet;

use super::rows;
use crate::engine::{Call, Engine};
use crate::error::Result;

/// Keywords and functions.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// All keywords, in lowercase.
    pub keywords: BTreeSet<String>,
    /// The functions of one value (scalar functions and macros), operators left out.
    pub functions: BTreeSet<String>,
}

impl Engine {
    /// The words of DuckDB's SQL.
    pub async fn vocabulary(&self, call: &Call) -> Result<Vocabulary> {
        self.run(call, move |work| {
            let keywords = work.collect("SELECT keyword_name FROM duckdb_keywords()", &[])?;
            let sql = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro') \
                       AND internal AND regexp_full_match(function_name, '[A-Za-z_][A-Za-z_0-9]*')";
            let functions = work.collect(sql, &[])?;
            Ok(Vocabulary {
                keywords: rows(&keywords).filter_map(|row| row.text(0)).collect(),
                functions: rows(&functions).filter_map(|row| row.text(0)).collect(),
            })
        })
        .await
    }
}
