//! What Flight SQL clients read of a column besides its Arrow type: entries of the field's metadata.
//!
//! Every column of a result has those that follow from its SQL type. REMARKS is not among them: JDBC would take it for the
//! column's label.

use arrow::datatypes::Metadata;

/// The SQL type.
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";
const IS_CASE_SENSITIVE: &str = "ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE";
const IS_SEARCHABLE: &str = "ARROW:FLIGHT:SQL:IS_SEARCHABLE";
/// Whether the column cannot be written to.
pub(super) const IS_READ_ONLY: &str = "ARROW:FLIGHT:SQL:IS_READ_ONLY";
/// Whether a sequence gives the column's values.
pub(super) const IS_AUTO_INCREMENT: &str = "ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT";
/// A comment.
pub(super) const REMARKS: &str = "ARROW:FLIGHT:SQL:REMARKS";
/// The catalog of the column's table.
pub(super) const CATALOG_NAME: &str = "ARROW:FLIGHT:SQL:CATALOG_NAME";
/// The schema of the column's table: the specification's name for it, and the one that the Go, Java and C++ clients read.
pub(super) const SCHEMA_NAMES: [&str; 2] = ["ARROW:FLIGHT:SQL:DB_SCHEMA_NAME", "ARROW:FLIGHT:SQL:SCHEMA_NAME"];
/// The column's table.
pub(super) const TABLE_NAME: &str = "ARROW:FLIGHT:SQL:TABLE_NAME";

/// How metadata says yes and no.
pub(super) fn flag(is: bool) -> String {
    if is { "1" } else { "0" }.to_owned()
}

/// Adds what follows from a column's SQL type.
pub(super) fn describe(metadata: &mut Metadata, sql_type: String) {
    let (precision, scale) = size(&sql_type);
    if let Some(precision) = precision {
        metadata.insert(PRECISION, precision.to_string());
    }
    if let Some(scale) = scale {
        metadata.insert(SCALE, scale.to_string());
    }
    metadata.insert(IS_CASE_SENSITIVE, flag(is_text(&sql_type)));
    // Whether a client may edit what it reads is not for the column to say: tools that are told so show it as locked.
    metadata.insert(IS_READ_ONLY, flag(false));
    metadata.insert(IS_SEARCHABLE, flag(true));
    metadata.insert(TYPE_NAME, sql_type);
}

fn is_text(sql_type: &str) -> bool {
    matches!(sql_type, "VARCHAR" | "JSON") || (sql_type.starts_with("ENUM") && !sql_type.ends_with(']'))
}

/// Precision and scale, as JDBC counts them: digits of a number, characters of a date or time with the digits of its second.
fn size(sql_type: &str) -> (Option<u32>, Option<u32>) {
    let (precision, scale) = match sql_type {
        "BOOLEAN" => (1, None),
        "TINYINT" | "UTINYINT" => (3, Some(0)),
        "SMALLINT" | "USMALLINT" => (5, Some(0)),
        "INTEGER" | "UINTEGER" => (10, Some(0)),
        "BIGINT" | "TIMESTAMP_S" => (19, Some(0)),
        "UBIGINT" => (20, Some(0)),
        // What Arrow's decimal of 128 bits holds.
        "HUGEINT" | "UHUGEINT" => (38, Some(0)),
        "FLOAT" => (7, None),
        "DOUBLE" => (15, None),
        "DATE" => (10, None),
        "TIME" => (15, Some(6)),
        "TIME_NS" => (18, Some(9)),
        "TIME WITH TIME ZONE" => (21, Some(6)),
        "TIMESTAMP_MS" => (23, Some(3)),
        "TIMESTAMP" => (26, Some(6)),
        "TIMESTAMP WITH TIME ZONE" => (32, Some(6)),
        "TIMESTAMP_NS" => (29, Some(9)),
        "UUID" => (36, None),
        other => return decimal(other).map_or((None, None), |(precision, scale)| (Some(precision), Some(scale))),
    };
    (Some(precision), scale)
}

/// `DECIMAL(precision,scale)`.
fn decimal(sql_type: &str) -> Option<(u32, u32)> {
    let (precision, scale) = sql_type.strip_prefix("DECIMAL(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_types() {
        assert_eq!(size("DECIMAL(18,3)"), (Some(18), Some(3)));
        assert_eq!(size("INTEGER"), (Some(10), Some(0)));
        assert_eq!(size("TIMESTAMP"), (Some(26), Some(6)));
        assert_eq!(size("DECIMAL(18,3)[]"), (None, None));
        assert_eq!(size("VARCHAR"), (None, None));
    }

    #[test]
    fn text_has_case() {
        for (sql_type, sensitive) in
            [("VARCHAR", "1"), ("ENUM('a')", "1"), ("ENUM('a')[]", "0"), ("INTEGER", "0"), ("STRUCT(a VARCHAR)", "0")]
        {
            let mut metadata = Metadata::default();
            describe(&mut metadata, sql_type.to_owned());
            assert_eq!(metadata[IS_CASE_SENSITIVE], sensitive, "{sql_type}");
            assert_eq!(metadata[TYPE_NAME], sql_type);
            assert!(!metadata.contains_key(REMARKS));
        }
    }
}
