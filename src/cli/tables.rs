//! `merganser tables`: what tables the server has.

use super::client::{Client, ServerArgs};
use super::output;
use crate::error::Result;
use crate::proto::v1::{ListTablesRequest, TableInfo, TableKind};
use crate::tables::Kind;

/// List the tables
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser tables\n  \
    merganser tables --kind events --like 'app%'\n  \
    merganser tables --server grpc+tls://db.example:8815 --user ann --json")]
pub(super) struct Args {
    /// List only tables of this kind
    #[arg(long, value_enum)]
    kind: Option<KindArg>,

    /// List only tables whose name matches this SQL LIKE pattern
    #[arg(long, value_name = "PATTERN")]
    like: Option<String>,

    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KindArg {
    Events,
    Profiles,
    Table,
    View,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let kind = match args.kind {
        None => TableKind::Unspecified,
        Some(KindArg::Events) => TableKind::Events,
        Some(KindArg::Profiles) => TableKind::Profiles,
        Some(KindArg::Table) => TableKind::Table,
        Some(KindArg::View) => TableKind::View,
    };
    let request = ListTablesRequest { kind: kind.into(), name_like: args.like.unwrap_or_default() };
    let tables: Vec<TableInfo> = Client::connect(&args.server).await?.action("list_tables", &request).await?;
    if args.json { output::print_json(&tables) } else { output::print(&text(&tables)) }
}

pub(super) fn text(tables: &[TableInfo]) -> String {
    if tables.is_empty() {
        return "no tables".to_owned();
    }
    let mut lines = vec![["name", "kind", "rows", "fetched at (UTC)", "size"].map(str::to_owned).to_vec()];
    lines.extend(tables.iter().map(|table| {
        vec![
            table.name.clone(),
            kind_word(table.kind()).to_owned(),
            count(table.row_count),
            output::time(table.fetched_at.as_ref()),
            table.size_bytes.map(|bytes| output::bytes(bytes.unsigned_abs())).unwrap_or_default(),
        ]
    }));
    output::columns(&lines, &[2, 4])
}

/// A number of rows for people; nothing if it is not known.
fn count(rows: Option<i64>) -> String {
    rows.map(|rows| output::thousands(rows.unsigned_abs())).unwrap_or_default()
}

/// The word for a kind; nothing if the server did not say it.
pub(super) fn kind_word(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Unspecified => "",
        TableKind::Events => Kind::Events.word(),
        TableKind::Profiles => Kind::Profiles.word(),
        TableKind::Table => Kind::Table.word(),
        TableKind::View => Kind::View.word(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let tables = [
            TableInfo {
                name: "purchases".to_owned(),
                kind: TableKind::Events.into(),
                row_count: Some(62_189),
                fetched_at: Some("2024-01-31T12:00:00Z".parse().unwrap()),
                size_bytes: Some(12 << 20),
            },
            TableInfo { name: "v".to_owned(), kind: TableKind::View.into(), ..TableInfo::default() },
        ];
        let wanted = "\
name       kind      rows  fetched at (UTC)         size\n\
purchases  events  62,189  2024-01-31 12:00:00  12.0 MiB\n\
v          view";
        assert_eq!(text(&tables), wanted);
        assert_eq!(text(&[]), "no tables");
    }
}
