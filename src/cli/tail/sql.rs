//! The statements that a look needs. Each row comes as its number, its mark, whether it is to be shown, and its columns.

use std::fmt::Write as _;
use std::time::Duration;

use super::position::SEEN_MAX;
use crate::proto::v1::{TableKind, TableSchema};

/// What makes the statements about one table.
#[derive(Debug)]
pub(super) struct Sql {
    table: String,
    /// What tells a row from others: a hash of all that is in it.
    mark: String,
    /// Whether a row is shown.
    condition: String,
    /// The column that says when a row happened, if the kind has one.
    time: Option<&'static str>,
}

impl Sql {
    /// Statements about a table, of whose rows only those are shown for which `condition` is true.
    pub(super) fn new(schema: &TableSchema, condition: Option<&str>) -> Self {
        let columns: Vec<String> = schema.columns.iter().map(|column| quote(&column.name)).collect();
        let time = match schema.kind() {
            TableKind::Events => Some("event_time"),
            TableKind::Profiles => Some("last_seen"),
            TableKind::Table | TableKind::View | TableKind::Unspecified => None,
        };
        // The line end is for a comment at the end of the condition.
        let condition =
            condition.map_or_else(|| "true".to_owned(), |text| format!("coalesce((\n{text}\n)::BOOLEAN, false)"));
        Self { table: quote(&schema.table), mark: format!("hash({})::VARCHAR", columns.join(", ")), condition, time }
    }

    /// No row is shown.
    pub(super) const NONE: &'static str = "false";

    /// Which rows are shown: the last so many.
    pub(super) fn last(&self, lines: u32) -> String {
        let Self { table, condition, .. } = self;
        format!("rowid IN (SELECT rowid FROM {table} WHERE {condition} ORDER BY rowid DESC LIMIT {lines})")
    }

    /// Which rows are shown: those that happened within this time; none if the table has no time.
    pub(super) fn since(&self, since: Duration) -> Option<String> {
        let (condition, time) = (&self.condition, self.time?);
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 2);
        Some(format!("{condition} AND {time} >= make_timestamp(epoch_us(now()) - {micros})"))
    }

    /// The rows to begin with: those that are `shown`, and the last ones, to know where to go on.
    pub(super) fn begin(&self, shown: &str) -> String {
        let Self { table, mark, .. } = self;
        format!(
            "SELECT rowid, {mark}, ({shown}), * FROM {table} WHERE ({shown}) OR rowid > (SELECT max(rowid) FROM {table}) - \
             {SEEN_MAX} ORDER BY rowid"
        )
    }

    /// The rows from number `last` on: it, those that are shown, and the last one.
    pub(super) fn from(&self, last: i64) -> String {
        let Self { table, mark, condition, .. } = self;
        let newest = format!("(SELECT max(rowid) FROM {table} WHERE rowid >= {last})");
        format!(
            "SELECT rowid, {mark}, {condition}, * FROM {table} WHERE rowid >= {last} AND (rowid = {last} OR {condition} OR \
             rowid = {newest}) ORDER BY rowid"
        )
    }

    /// The numbers and marks of rows up to number `last` that have one of these marks, the highest first.
    pub(super) fn find(&self, last: i64, marks: impl Iterator<Item = u64>) -> String {
        let Self { table, mark, .. } = self;
        let mut wanted = String::new();
        for (index, mark) in marks.enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(wanted, "{}'{mark}'", if index > 0 { ", " } else { "" });
        }
        format!(
            "SELECT rowid, {mark} FROM {table} WHERE rowid <= {last} AND {mark} IN ({wanted}) ORDER BY rowid DESC LIMIT {SEEN_MAX}"
        )
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Column;

    fn schema(kind: TableKind) -> TableSchema {
        let columns = ["a", "b\"c"].map(|name| Column { name: name.to_owned(), ..Column::default() }).to_vec();
        TableSchema { table: "t".to_owned(), kind: kind.into(), columns, ..TableSchema::default() }
    }

    #[test]
    fn statements() {
        let sql = Sql::new(&schema(TableKind::Events), Some("a > 1 -- much"));
        let condition = "coalesce((\na > 1 -- much\n)::BOOLEAN, false)";
        assert_eq!(
            sql.from(7),
            format!(
                "SELECT rowid, hash(\"a\", \"b\"\"c\")::VARCHAR, {condition}, * FROM \"t\" WHERE rowid >= 7 AND (rowid = 7 OR {condition} OR \
                 rowid = (SELECT max(rowid) FROM \"t\" WHERE rowid >= 7)) ORDER BY rowid"
            )
        );
        assert_eq!(
            sql.since(Duration::from_mins(1)).unwrap(),
            format!("{condition} AND event_time >= make_timestamp(epoch_us(now()) - 60000000)")
        );
        assert!(Sql::new(&schema(TableKind::Table), None).since(Duration::from_secs(1)).is_none());
        assert!(sql.find(9, [1, u64::MAX].into_iter()).contains("IN ('1', '18446744073709551615')"));
    }
}
