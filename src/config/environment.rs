//! What the process is told by its surroundings, read once at the start and then passed on, so that tests can give their own.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use directories::BaseDirs;

/// The part of the process's surroundings that Merganser looks at.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Environment variables: those that begin with `MERGANSER_`, and `RUST_LOG`.
    pub variables: BTreeMap<String, String>,
    /// The user's configuration directory, if there is a user.
    pub config_directory: Option<PathBuf>,
    /// The user's data directory, if there is a user.
    pub data_directory: Option<PathBuf>,
    /// The directory for temporary files.
    pub temp_directory: PathBuf,
}

impl Environment {
    /// Reads the surroundings of this process.
    pub fn of_process() -> Self {
        let base = BaseDirs::new();
        let variables = env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let ours = name.starts_with("MERGANSER_") || name == "RUST_LOG";
            ours.then(|| (name, value.to_string_lossy().into_owned()))
        });
        Self {
            variables: variables.collect(),
            config_directory: base.as_ref().map(|base| base.config_dir().to_owned()),
            data_directory: base.as_ref().map(|base| base.data_dir().to_owned()),
            temp_directory: env::temp_dir(),
        }
    }
}
