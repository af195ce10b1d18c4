//! `merganser metadata`: where a table's rows came from.

use super::client::{Client, ServerArgs};
use super::output;
use super::tables::kind_word;
use crate::error::Result;
use crate::proto::v1::{TableMetadata, TableRequest};

/// Show where a table's rows came from
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser metadata events\n  \
    merganser metadata events --json")]
pub(super) struct Args {
    /// Table of events or profiles
    table: String,

    /// Print JSON: the table's row of `_metadata`
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let request = TableRequest { table: args.table };
    let metadata: TableMetadata = Client::connect(&args.server).await?.action_once("get_metadata", &request).await?;
    if args.json { output::print_json(&metadata) } else { output::print(&text(&metadata)) }
}

/// One line a field; what is not set is left out.
pub(super) fn text(metadata: &TableMetadata) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = [
        ("table_name", metadata.table_name.clone()),
        ("type", kind_word(metadata.r#type()).to_owned()),
        ("row_count", output::thousands(metadata.row_count.unsigned_abs())),
        ("fetched_at", output::time(metadata.fetched_at.as_ref())),
        ("from_date", optional(&metadata.from_date)),
        ("to_date", optional(&metadata.to_date)),
        ("filter_events", metadata.filter_events.join(", ")),
        ("filter_where", optional(&metadata.filter_where)),
        ("created_at", output::time(metadata.created_at.as_ref())),
        ("updated_at", output::time(metadata.updated_at.as_ref())),
    ];
    let lines: Vec<Vec<String>> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    output::columns(&lines, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::TableKind;

    #[test]
    fn fields_that_are_set_are_shown() {
        let metadata = TableMetadata {
            table_name: "purchases".to_owned(),
            r#type: TableKind::Events.into(),
            row_count: 1234,
            from_date: Some("2024-01-01".to_owned()),
            filter_events: vec!["a".to_owned(), "b".to_owned()],
            ..TableMetadata::default()
        };
        let wanted = "\
table_name     purchases\n\
type           events\n\
row_count      1,234\n\
from_date      2024-01-01\n\
filter_events  a, b";
        assert_eq!(text(&metadata), wanted);
    }
}
