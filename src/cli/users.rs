//! `merganser user`: who may call a server. It changes the users file, which a running server reads again within a second.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::output;
use crate::access::{Grant, Hash, Role, User, Users, check_name};
use crate::config::{Config, ConfigFlags, Environment};
use crate::error::{Error, Result};

/// Bytes of stdin that can be a password and its line end.
const STDIN_BYTES_MAX: u64 = 4096;

/// Say who may call a server: its users, their roles and grants
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    long_about = "Say who may call a server: its users, their roles and grants\n\n\
    Changes the users file, which must be on the machine of the server. A running server follows within a second",
    after_long_help = "Examples:\n  \
    merganser user add ann --role admin\n  \
    merganser user add loader --role writer --grant 'write:shop_*' --grant 'read:*' --password-stdin < password.txt\n  \
    merganser user set ann --role reader\n  \
    merganser user remove ann"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(AddArgs),
    /// List the users
    List(ListArgs),
    Set(SetArgs),
    Remove(RemoveArgs),
}

/// Which users file: the options that `user` and `token` share.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FileArgs {
    /// Change this users file [default: auth.users_file of the configuration, else merganser/users.toml in the user's configuration directory]
    #[arg(long, value_name = "FILE")]
    users_file: Option<PathBuf>,

    /// Read settings from this file, as serve does
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    /// The file that the arguments, the environment and the configuration say.
    pub(super) fn path(self) -> Result<PathBuf> {
        if let Some(path) = self.users_file {
            return Ok(path);
        }
        let environment = Environment::of_process();
        let flags = ConfigFlags { config: self.config, ..ConfigFlags::default() };
        let path = Config::load(&flags, &environment)?.config.auth.users_path(&environment);
        path.ok_or_else(|| Error::invalid("there is no configuration directory: say --users-file FILE"))
    }
}

/// Add a user; asks for the password
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Name of the user: letters, digits, _, ., @ and -
    name: String,

    /// What the user may do at most
    #[arg(long, value_enum)]
    role: Role,

    /// Allow these tables only, like read:shop_* or write:tmp_?; may be repeated [default: all tables]
    #[arg(long = "grant", value_name = "ACCESS:PATTERN")]
    grants: Vec<Grant>,

    /// Read the password from stdin
    #[arg(long, conflicts_with = "no_password")]
    password_stdin: bool,

    /// Give no password: the user comes with an API token or a certificate
    #[arg(long)]
    no_password: bool,

    #[command(flatten)]
    file: FileArgs,
}

// The options that `user list` and `token list` share.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Print JSON: an array of objects
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) file: FileArgs,
}

/// Change a user; without another option, asks for a new password
#[derive(Debug, clap::Args)]
struct SetArgs {
    /// Name of the user
    name: String,

    /// What the user may do at most
    #[arg(long, value_enum)]
    role: Option<Role>,

    /// Allow these tables only, instead of those before; may be repeated
    #[arg(long = "grant", value_name = "ACCESS:PATTERN", conflicts_with = "all_tables")]
    grants: Vec<Grant>,

    /// Allow all tables again
    #[arg(long)]
    all_tables: bool,

    /// Read a new password from stdin
    #[arg(long)]
    password_stdin: bool,

    #[command(flatten)]
    file: FileArgs,
}

/// Remove a user, with its API tokens
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// Name of the user
    name: String,

    #[command(flatten)]
    file: FileArgs,
}

pub(super) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Add(args) => add(args),
        Command::List(args) => list(args),
        Command::Set(args) => set(args),
        Command::Remove(args) => {
            Users::edit(&args.file.path()?, |users| users.remove(&args.name))?;
            output::print(&format!("removed {}", args.name))
        }
    }
}

fn add(args: AddArgs) -> Result<()> {
    let AddArgs { name, role, grants, password_stdin, no_password, file } = args;
    let path = file.path()?;
    check_name(&name)?;
    // Asked for before the file is locked.
    let password = if no_password { None } else { Some(password(&name, password_stdin)?) };
    let user = User { name: name.clone(), role, grants, created: now(), password };
    Users::edit(&path, |users| users.add(user))?;
    output::print(&format!("added {name} ({}) to {}", role.word(), path.display()))
}

fn set(args: SetArgs) -> Result<()> {
    let SetArgs { name, role, grants, all_tables, password_stdin, file } = args;
    let path = file.path()?;
    let asks = role.is_none() && grants.is_empty() && !all_tables;
    let password = if password_stdin || asks { Some(password(&name, password_stdin)?) } else { None };
    Users::edit(&path, |users| {
        let user = users.user_mut(&name)?;
        user.role = role.unwrap_or(user.role);
        if all_tables || !grants.is_empty() {
            user.grants = grants;
        }
        if password.is_some() {
            user.password = password;
        }
        Ok(())
    })?;
    output::print(&format!("changed {name}"))
}

fn list(args: ListArgs) -> Result<()> {
    let users = Users::read(&args.file.path()?)?.users;
    let grants = |user: &User| user.grants.iter().map(ToString::to_string).collect::<Vec<_>>();
    if args.json {
        let user = |user: &User| {
            json!({
                "name": user.name,
                "role": user.role,
                "grants": grants(user),
                "has_password": user.password.is_some(),
                "created": user.created,
            })
        };
        return output::print_json(&users.iter().map(user).collect::<Vec<_>>());
    }
    if users.is_empty() {
        return output::print("no users");
    }
    let mut lines = vec![["name", "role", "tables", "password", "created (UTC)"].map(str::to_owned).to_vec()];
    lines.extend(users.iter().map(|user| {
        let tables = if user.grants.is_empty() { "all".to_owned() } else { grants(user).join(", ") };
        let password = if user.password.is_some() { "yes" } else { "no" };
        vec![user.name.clone(), user.role.word().to_owned(), tables, password.to_owned(), time(user.created)]
    }));
    output::print(&output::columns(&lines, &[]))
}

/// The hash of a password that is asked for twice, or is all of stdin.
fn password(name: &str, from_stdin: bool) -> Result<Hash> {
    let unreadable = |error: io::Error| Error::invalid(format!("cannot read the password: {error}")).with_source(error);
    if from_stdin {
        let mut text = String::new();
        io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
        return Hash::of(text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line)));
    }
    if !io::stdin().is_terminal() {
        return Err(Error::invalid("cannot ask for the password: stdin is not a terminal, say --password-stdin"));
    }
    let first = rpassword::prompt_password(format!("password of {name}: ")).map_err(unreadable)?;
    let again = rpassword::prompt_password("once more: ").map_err(unreadable)?;
    if first != again {
        return Err(Error::invalid("the passwords are not the same"));
    }
    Hash::of(&first)
}

/// The clock, to the second, which is enough for people.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// A time for people.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
