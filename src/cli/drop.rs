//! `merganser drop`: drops a table, its rows and its metadata. It asks first on a terminal; a script says `--yes`.

use std::io::{self, IsTerminal};

use serde_json::json;

use super::client::{Client, ServerArgs};
use super::output;
use crate::error::{Error, Result};
use crate::proto::v1::{DropTableRequest, DropTableResult};

/// Drop a table, its rows and its metadata
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Drop a table, its rows and its metadata\n\n\
    Asks on a terminal. Without one it refuses, unless --yes says that it is meant",
    after_long_help = "Examples:\n  \
    merganser drop old_events\n  \
    merganser drop old_events --if-exists --yes"
)]
pub(super) struct Args {
    /// Table to drop
    table: String,

    /// Succeed when the table is not there
    #[arg(long)]
    if_exists: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// Print JSON: table and dropped
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    if !args.yes {
        if !io::stdin().is_terminal() {
            let message =
                format!("refusing to drop `{}` without asking: stdin is not a terminal, say --yes", args.table);
            return Err(Error::invalid(message));
        }
        if !output::confirm(&format!("drop `{}`, its rows and its metadata?", args.table))? {
            return Err(Error::cancelled(format!("`{}` was not dropped", args.table)));
        }
    }
    let request = DropTableRequest { table: args.table, if_exists: args.if_exists };
    let result: DropTableResult = Client::connect(&args.server).await?.action_once("drop_table", &request).await?;
    if args.json {
        output::print_json(&json!({ "table": result.table, "dropped": result.dropped }))
    } else if result.dropped {
        output::print(&format!("dropped {}", result.table))
    } else {
        output::print(&format!("{} is not there", result.table))
    }
}
