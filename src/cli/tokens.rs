//! `merganser token`: API tokens of users, for programs.

use std::time::Duration;

use humantime_serde::re::humantime;
use jiff::Timestamp;
use serde_json::json;

use super::output;
use super::users::{FileArgs, ListArgs, now, time};
use crate::access::{ApiToken, NewToken, Users};
use crate::error::{Error, Result};

/// Letters of a label.
const NAME_MAX: usize = 128;

/// Make and revoke API tokens, with which programs call as a user
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    long_about = "Make and revoke API tokens, with which programs call as a user\n\n\
    A token is sent as `authorization: Bearer`, and stands for its user until it expires or is revoked. The users file has only \
    its digest. A running server follows within a second",
    after_long_help = "Examples:\n  \
    merganser token create --user loader --expires 90d --name nightly > token.txt\n  \
    MERGANSER_TOKEN=$(cat token.txt) merganser tables\n  \
    merganser token revoke 5b0c1f2e9a37"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
    /// List the tokens, without what is secret of them
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Make a token and print it; nobody can print it again
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Name of the user whom the token stands for
    #[arg(long, value_name = "NAME")]
    user: String,

    /// Time after which it is worth nothing, like 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,

    /// What it is for
    #[arg(long, value_name = "LABEL", default_value = "")]
    name: String,

    #[command(flatten)]
    file: FileArgs,
}

/// Revoke a token
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Id of the token: its part between mgt_ and the next _
    id: String,

    #[command(flatten)]
    file: FileArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Create(args) => create(args),
        Command::List(args) => list(args),
        Command::Revoke(args) => {
            Users::edit(&args.file.path()?, |users| users.revoke(&args.id))?;
            output::print(&format!("revoked {}", args.id))
        }
    }
}

fn create(args: CreateArgs) -> Result<()> {
    let CreateArgs { user, expires, name, file } = args;
    if name.chars().count() > NAME_MAX || name.contains(char::is_control) {
        return Err(Error::invalid(format!("a label has up to {NAME_MAX} letters, and no line ends")));
    }
    let created = now();
    let too_far = || Error::invalid("the token would expire too far in the future");
    let expires = match expires {
        Some(lifetime) => Some(created.checked_add(lifetime).map_err(|_| too_far())?),
        None => None,
    };
    let new = NewToken::random()?;
    let token = ApiToken { id: new.id.clone(), user: user.clone(), name, created, expires, sha256: new.sha256.clone() };
    Users::edit(&file.path()?, |users| {
        users.user_mut(&user)?;
        users.tokens.push(token);
        Ok(())
    })?;
    // Alone on stdout, so that it can go into a file.
    output::print(&new.text)
}

fn list(args: ListArgs) -> Result<()> {
    let tokens = Users::read(&args.file.path()?)?.tokens;
    if args.json {
        let token = |token: &ApiToken| {
            let ApiToken { id, user, name, created, expires, .. } = token;
            json!({ "id": id, "user": user, "name": name, "created": created, "expires": expires })
        };
        return output::print_json(&tokens.iter().map(token).collect::<Vec<_>>());
    }
    if tokens.is_empty() {
        return output::print("no tokens");
    }
    let now = now();
    let mut lines = vec![["id", "user", "name", "created (UTC)", "expires (UTC)"].map(str::to_owned).to_vec()];
    lines.extend(tokens.into_iter().map(|token| {
        let expires = token.expires.map(|expires| expiry(expires, now)).unwrap_or_default();
        vec![token.id, token.user, token.name, time(token.created), expires]
    }));
    output::print(&output::columns(&lines, &[]))
}

fn expiry(expires: Timestamp, now: Timestamp) -> String {
    if expires <= now { "has expired".to_owned() } else { time(expires) }
}
