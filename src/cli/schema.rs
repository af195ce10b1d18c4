//! `merganser schema`: the columns of a table.

use super::client::{Client, ServerArgs};
use super::output;
use crate::error::{Error, Result};
use crate::proto::v1::{TableRequest, TableSchema};

/// Show the columns of a table or view
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser schema events\n  \
    merganser schema _metadata --json")]
pub(super) struct Args {
    /// Table or view, `_metadata` too
    table: String,

    /// Print JSON: table, kind and columns
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let request = TableRequest { table: args.table };
    let schema: TableSchema = Client::connect(&args.server).await?.action_once("get_schema", &request).await?;
    if args.json { output::print_json(&json(&schema)?) } else { output::print(&text(&schema)) }
}

/// The schema without its Arrow form: base64 of a flatbuffer says nothing on a command line.
fn json(schema: &TableSchema) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(schema)
        .map_err(|error| Error::internal("cannot write the answer as JSON").with_source(error))?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("arrow_schema");
    }
    Ok(value)
}

pub(super) fn text(schema: &TableSchema) -> String {
    let mut lines = vec![["column", "type", "null", "key"].map(str::to_owned).to_vec()];
    lines.extend(schema.columns.iter().map(|column| {
        let word = |yes: bool, word: &str| if yes { word.to_owned() } else { String::new() };
        vec![
            column.name.clone(),
            column.r#type.clone(),
            if column.nullable { "yes" } else { "no" }.to_owned(),
            word(column.primary_key, "key"),
        ]
    }));
    output::columns(&lines, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Column;

    #[test]
    fn columns_are_shown() {
        let column = |name: &str, nullable, primary_key| Column {
            name: name.to_owned(),
            r#type: "VARCHAR".to_owned(),
            nullable,
            primary_key,
        };
        let schema = TableSchema {
            table: "e".to_owned(),
            columns: vec![column("insert_id", false, true), column("properties", true, false)],
            arrow_schema: vec![1, 2, 3].into(),
            ..TableSchema::default()
        };
        assert_eq!(
            text(&schema),
            "column      type     null  key\ninsert_id   VARCHAR  no    key\nproperties  VARCHAR  yes"
        );
        let json = json(&schema).unwrap();
        assert_eq!(json["columns"][0]["primary_key"], true);
        assert!(json.get("arrow_schema").is_none());
    }
}
