//! The actions on the query log and on sessions: a caller sees and ends its own, an administrator everybody's.

use bytes::Bytes;
use uuid::Uuid;

use super::State;
use super::actions::{answer, parse, timestamp, write};
use crate::access::{Operation, Principal};
use crate::engine::{QueryFilter, QueryInfo, QueryKind, QueryOutcome, QueryState, SessionInfo, milliseconds};
use crate::error::{Error, Result};
use crate::proto::v1;

/// list_queries.
pub(super) fn list(state: &State, body: &Bytes, caller: &Principal) -> Result<Vec<Bytes>> {
    let request: v1::ListQueriesRequest = parse(body)?;
    let sees_all = caller.may(Operation::Administer("see others' queries")).is_ok();
    let filter = QueryFilter {
        ended: request.all,
        user: (!sees_all).then_some(&*caller.name),
        limit: usize::try_from(request.limit).ok().filter(|limit| *limit > 0),
    };
    state.engine.queries(filter).iter().map(|info| write(body, &query(info))).collect()
}

/// cancel_query.
pub(super) fn cancel(state: &State, body: &Bytes, caller: &Principal) -> Result<Vec<Bytes>> {
    let request: v1::CancelQueryRequest = parse(body)?;
    let unknown = || Error::not_found(format!("query {:?} is not running", request.id));
    let id: Uuid = request.id.parse().map_err(|_| unknown())?;
    let user = state.engine.query_user(id).ok_or_else(unknown)?;
    check(caller, Some(&user), "cancel others' queries").map_err(|_| unknown())?;
    if !state.engine.cancel_query(id, &caller.name) {
        return Err(unknown());
    }
    answer(body, &v1::CancelQueryResult { id: id.to_string() })
}

/// list_sessions.
pub(super) fn sessions(state: &State, body: &Bytes, caller: &Principal) -> Result<Vec<Bytes>> {
    let _: v1::ListSessionsRequest = parse(body)?;
    let is_seen = |info: &SessionInfo| check(caller, info.user.as_deref(), "see others' sessions").is_ok();
    state.engine.session_list().into_iter().filter(is_seen).map(|info| write(body, &session(info))).collect()
}

/// close_session.
pub(super) fn close_session(state: &State, body: &Bytes, caller: &Principal) -> Result<Vec<Bytes>> {
    let v1::CloseSessionRequest { id } = parse(body)?;
    let unknown = || Error::not_found(format!("session {id:?} is not known"));
    let all = state.engine.session_list();
    let info = all.iter().find(|info| *info.id == *id).ok_or_else(unknown)?;
    check(caller, info.user.as_deref(), "close others' sessions").map_err(|_| unknown())?;
    if !state.engine.close_session_named(&id, &caller.name) {
        return Err(unknown());
    }
    answer(body, &v1::CloseSessionResult { id })
}

/// Whether the caller may do `what`, if it is not to its own.
fn check(caller: &Principal, owner: Option<&str>, what: &'static str) -> Result<()> {
    if owner == Some(&*caller.name) { Ok(()) } else { caller.may(Operation::Administer(what)) }
}

fn query(info: &QueryInfo) -> v1::QueryInfo {
    let kind = match info.kind {
        QueryKind::Query => v1::QueryKind::Query,
        QueryKind::Update => v1::QueryKind::Update,
        QueryKind::Ingest => v1::QueryKind::Ingest,
    };
    let state = match info.state {
        QueryState::Queued => v1::QueryState::Queued,
        QueryState::Planned => v1::QueryState::Planned,
        QueryState::Running => v1::QueryState::Running,
        QueryState::Reading => v1::QueryState::Reading,
        QueryState::Done => v1::QueryState::Done,
    };
    let outcome = match info.outcome {
        None => v1::QueryOutcome::Unspecified,
        Some(QueryOutcome::Ok) => v1::QueryOutcome::Ok,
        Some(QueryOutcome::Cancelled) => v1::QueryOutcome::Cancelled,
        Some(QueryOutcome::Timeout) => v1::QueryOutcome::Timeout,
        Some(QueryOutcome::Error) => v1::QueryOutcome::Error,
    };
    v1::QueryInfo {
        id: info.id.to_string(),
        user: info.user.to_string(),
        session: info.session.as_deref().map(str::to_owned),
        kind: kind.into(),
        state: state.into(),
        fingerprint: info.fingerprint_text(),
        text: info.text.as_deref().map(str::to_owned),
        table: info.table.as_deref().map(str::to_owned),
        started_at: Some(timestamp(info.started_at)),
        queued_ms: milliseconds(info.queued),
        run_ms: milliseconds(info.running),
        total_ms: milliseconds(info.total),
        rows: info.rows,
        bytes: info.bytes,
        outcome: outcome.into(),
        error_code: info.error_word(),
        error: info.error.as_deref().map(str::to_owned),
    }
}

fn session(info: SessionInfo) -> v1::SessionInfo {
    v1::SessionInfo {
        id: info.id.to_string(),
        user: info.user.as_deref().unwrap_or_default().to_owned(),
        created_at: Some(timestamp(info.created_at)),
        last_used_at: Some(timestamp(info.last_used_at)),
        in_transaction: info.in_transaction,
        statements: info.statements as u64,
        settings: info.settings,
    }
}
