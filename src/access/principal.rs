//! A principal: who calls, with which role, on which tables.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::error::{Error, Result};

/// What somebody may do at most; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads tables.
    Reader,
    /// Also creates, fills, changes and drops tables.
    Writer,
    /// Everything, and sees everybody's queries and sessions.
    Admin,
}

impl Role {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "reader" => Ok(Self::Reader),
            "writer" => Ok(Self::Writer),
            "admin" => Ok(Self::Admin),
            _ => Err(Error::invalid(format!("role {text:?} is not known: reader, writer or admin"))),
        }
    }
}

/// What a grant gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// Access to the tables whose names match a pattern: `read:shop_*`, `write:scratch_?`.
///
/// `*` stands for any letters, `?` for one, without regard to case. A table outside the main schema is `schema.table`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    access: Access,
    pattern: String,
}

impl Grant {
    /// Access to the tables that match `pattern`.
    pub fn new(access: Access, pattern: impl Into<String>) -> Self {
        Self { access, pattern: pattern.into() }
    }

    /// Whether it gives `access` to `table`.
    pub fn covers(&self, access: Access, table: &str) -> bool {
        self.access >= access && WildMatch::new_case_insensitive(&self.pattern).matches(table)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "read",
            Access::Write => "write",
        };
        write!(f, "{access}:{}", self.pattern)
    }
}

impl FromStr for Grant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("read", pattern)) if !pattern.is_empty() => Ok(Self::new(Access::Read, pattern)),
            Some(("write", pattern)) if !pattern.is_empty() => Ok(Self::new(Access::Write, pattern)),
            _ => Err(Error::invalid(format!("grant {text:?} is not read:PATTERN or write:PATTERN"))),
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name, or the subject of a token.
    pub name: Arc<str>,
    /// What it may do at most.
    pub role: Role,
    /// The tables that it may do that to; none: all of them.
    pub grants: Arc<[Grant]>,
}

impl Principal {
    /// One with access to all tables.
    pub fn new(name: impl Into<Arc<str>>, role: Role) -> Self {
        Self { name: name.into(), role, grants: Arc::default() }
    }

    /// Everybody, where nobody is asked who they are.
    pub fn anonymous() -> Self {
        Self::new("anonymous", Role::Admin)
    }

    /// The same, for the tables of `grants` only.
    #[must_use]
    pub fn with_grants(self, grants: impl Into<Arc<[Grant]>>) -> Self {
        Self { grants: grants.into(), ..self }
    }

    /// Whether it may see only some of the tables.
    pub fn is_restricted(&self) -> bool {
        self.role < Role::Admin && !self.grants.is_empty()
    }
}

/// What a client's certificate says, once TLS has verified it; the server puts it into the extensions of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The common name of its subject: the name of a user.
    pub name: Arc<str>,
}
