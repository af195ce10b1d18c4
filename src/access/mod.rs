//! Who may do what: principals, their roles and grants, and the one place that decides.
//!
//! Knows neither Flight nor DuckDB. `flight/` asks with the decoded command, the engine's guard with what DuckDB has bound a
//! statement to; both get their answer from [`Principal::may`].

mod permission;
mod principal;

pub use permission::{Operation, table_name};
pub use principal::{Access, ClientCertificate, Grant, Principal, Role};
