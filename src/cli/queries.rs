//! `merganser queries`, `merganser cancel` and `merganser sessions`: what runs on the server, and how to stop it.

use super::client::{Client, ServerArgs};
use super::output;
use crate::error::Result;
use crate::proto::v1::{
    CancelQueryRequest, CancelQueryResult, ListQueriesRequest, ListSessionsRequest, QueryInfo, QueryKind, QueryOutcome,
    QueryState, SessionInfo,
};

/// Letters of a statement's text that a line shows.
const TEXT_LETTERS: usize = 60;

/// List the statements that run
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser queries\n  \
    merganser queries --all --limit 20\n  \
    merganser queries --json")]
pub(super) struct QueriesArgs {
    /// List those that have ended, too
    #[arg(long)]
    all: bool,

    /// List so many at most, the newest
    #[arg(long, value_name = "NUMBER", default_value = "0", hide_default_value = true)]
    limit: u32,

    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Cancel a statement that runs
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser queries\n  \
    merganser cancel 01981f0e5d0a7c3e")]
pub(super) struct CancelArgs {
    /// Cancel the statement with this id
    id: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// List the sessions
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    merganser sessions\n  \
    merganser sessions --json")]
pub(super) struct SessionsArgs {
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn queries(args: QueriesArgs) -> Result<()> {
    let request = ListQueriesRequest { all: args.all, limit: args.limit };
    let queries: Vec<QueryInfo> = Client::connect(&args.server).await?.action("list_queries", &request).await?;
    if args.json { output::print_json(&queries) } else { output::print(&query_lines(&queries)) }
}

pub(super) async fn cancel(args: CancelArgs) -> Result<()> {
    let request = CancelQueryRequest { id: args.id };
    let answer: CancelQueryResult = Client::connect(&args.server).await?.action_once("cancel_query", &request).await?;
    output::print(&format!("cancelled {}", answer.id))
}

pub(super) async fn sessions(args: SessionsArgs) -> Result<()> {
    let mut client = Client::connect(&args.server).await?;
    let sessions: Vec<SessionInfo> = client.action("list_sessions", &ListSessionsRequest {}).await?;
    if args.json { output::print_json(&sessions) } else { output::print(&session_lines(&sessions)) }
}

fn query_lines(queries: &[QueryInfo]) -> String {
    if queries.is_empty() {
        return "no statements".to_owned();
    }
    let head = ["id", "user", "kind", "state", "started at (UTC)", "ms", "rows", "what"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(queries.iter().map(|query| {
        vec![
            query.id.clone(),
            query.user.clone(),
            kind_word(query.kind()).to_owned(),
            state_word(query).to_owned(),
            output::time(query.started_at.as_ref()),
            output::thousands(query.total_ms),
            output::thousands(query.rows),
            what(query),
        ]
    }));
    output::columns(&lines, &[5, 6])
}

/// The beginning of its text, or the table; else its fingerprint.
fn what(query: &QueryInfo) -> String {
    let known = query.text.as_ref().or(query.table.as_ref()).or(query.fingerprint.as_ref());
    let text = known.map(String::as_str).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(TEXT_LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn session_lines(sessions: &[SessionInfo]) -> String {
    if sessions.is_empty() {
        return "no sessions".to_owned();
    }
    let head = ["id", "user", "created at (UTC)", "last used at (UTC)", "transaction", "statements", "settings"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(sessions.iter().map(|session| {
        let settings: Vec<String> = session.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        vec![
            session.id.clone(),
            session.user.clone(),
            output::time(session.created_at.as_ref()),
            output::time(session.last_used_at.as_ref()),
            if session.in_transaction { "open" } else { "" }.to_owned(),
            output::thousands(session.statements),
            settings.join(", "),
        ]
    }));
    output::columns(&lines, &[5])
}

fn kind_word(kind: QueryKind) -> &'static str {
    match kind {
        QueryKind::Unspecified => "",
        QueryKind::Query => "query",
        QueryKind::Update => "update",
        QueryKind::Ingest => "ingest",
    }
}

/// Where it is, or how it ended.
fn state_word(query: &QueryInfo) -> &'static str {
    match query.outcome() {
        QueryOutcome::Ok => "ok",
        QueryOutcome::Cancelled => "cancelled",
        QueryOutcome::Timeout => "timeout",
        QueryOutcome::Error => "error",
        QueryOutcome::Unspecified => match query.state() {
            QueryState::Unspecified => "",
            QueryState::Queued => "queued",
            QueryState::Planned => "planned",
            QueryState::Running => "running",
            QueryState::Reading => "reading",
            QueryState::Done => "done",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_aligned() {
        let query = QueryInfo {
            id: "01".to_owned(),
            user: "ann".to_owned(),
            kind: QueryKind::Query.into(),
            state: QueryState::Running.into(),
            text: Some(format!("select  {}", "x".repeat(100))),
            started_at: Some("2024-01-31T12:00:00Z".parse().unwrap()),
            total_ms: 1234,
            rows: 5,
            ..QueryInfo::default()
        };
        let ended = QueryInfo {
            id: "02".to_owned(),
            user: "bob".to_owned(),
            kind: QueryKind::Ingest.into(),
            state: QueryState::Done.into(),
            outcome: QueryOutcome::Cancelled.into(),
            table: Some("t".to_owned()),
            ..QueryInfo::default()
        };
        let wanted = format!(
            "\
id  user  kind    state      started at (UTC)        ms  rows  what\n\
01  ann   query   running    2024-01-31 12:00:00  1,234     5  select {}…\n\
02  bob   ingest  cancelled                           0     0  t",
            "x".repeat(53)
        );
        assert_eq!(query_lines(&[query, ended]), wanted);
        assert_eq!((query_lines(&[]), session_lines(&[])), ("no statements".to_owned(), "no sessions".to_owned()));
    }
}
