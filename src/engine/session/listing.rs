//! What there is to tell of sessions, by names that are not their keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use humantime_serde::re::humantime;
use jiff::Timestamp;

use super::{Session, SessionKey, Sessions, Settings};
use crate::engine::queries::{SessionInfo, session_id};

impl Sessions {
    /// The sessions that something is kept for, the one used last first; `running` has the statements of each, by its name.
    pub(in crate::engine) fn list(&self, running: &HashMap<Arc<str>, usize>) -> Vec<SessionInfo> {
        let all: Vec<(SessionKey, Arc<Session>)> =
            self.lock().sessions.iter().map(|(key, session)| (Arc::clone(key), Arc::clone(session))).collect();
        let mut infos: Vec<SessionInfo> = all
            .iter()
            .map(|(key, session)| {
                let id = session_id(key);
                let statements = running.get(&id).copied().unwrap_or(0);
                session.info(id, statements)
            })
            .collect();
        infos.sort_by_key(|info| std::cmp::Reverse(info.last_used_at));
        infos
    }

    /// Ends the session of a name, for a reason that whoever runs a statement in it is told; false when there is none.
    pub(in crate::engine) fn close_named(&self, id: &str, reason: &str) -> bool {
        let key = self.lock().sessions.keys().find(|key| *session_id(key) == *id).map(Arc::clone);
        key.is_some_and(|key| self.close(&key, Some(reason)))
    }
}

impl Session {
    fn info(&self, id: Arc<str>, statements: usize) -> SessionInfo {
        let now = Timestamp::now().as_microsecond();
        let since = *self.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used = self.calls.load(Ordering::Acquire) > 0;
        let idle = if is_used { 0 } else { Instant::now().saturating_duration_since(since).as_micros() };
        SessionInfo {
            id,
            user: self.user.clone(),
            created_at: self.created_at,
            last_used_at: now - i64::try_from(idle).unwrap_or(0),
            in_transaction: self.lane.has_transaction(),
            statements,
            settings: self.settings().told(),
        }
    }
}

impl Settings {
    /// Those that are not the server's, by name, as a client sets them.
    fn told(&self) -> BTreeMap<String, String> {
        let Self { schema, time_zone, query_timeout, extensions } = self;
        let types = [extensions.json.then_some("arrow.json"), extensions.uuid.then_some("arrow.uuid")];
        let types: Vec<&str> = types.into_iter().flatten().collect();
        let all = [
            ("schema", schema.clone()),
            ("TimeZone", time_zone.clone()),
            ("query_timeout", query_timeout.map(|timeout| humantime::format_duration(timeout).to_string())),
            ("extension_types", (!types.is_empty()).then(|| types.join(","))),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
