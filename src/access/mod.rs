//! Who may do what: who calls, principals, their roles and grants, and the one place that decides.
//!
//! Knows neither Flight nor DuckDB. `flight/` asks [`Authority`] who calls, and then with the decoded command, the engine's guard
//! with what DuckDB has bound a statement to; both get their answer from [`Principal::may`].

mod api_token;
mod attempts;
mod authority;
mod directory;
mod jwks;
mod jwt;
mod key;
mod password;
mod permission;
mod principal;
mod session_token;
mod signature;
mod users;

pub use api_token::NewToken;
pub use authority::{Authority, Credentials, Identity, Now};
pub use password::Hash;
pub use permission::{Operation, table_name};
pub use principal::{Access, ClientCertificate, Grant, Principal, Role};
pub use users::{ApiToken, User, Users, check_name};
