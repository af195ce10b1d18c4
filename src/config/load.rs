//! From the four sources to one configuration: each source is a [`Layer`] of values with its origin, figment merges them and
//! remembers the origin of each value, for messages and for `--print-config`.

use std::fs;
use std::path::{Path, PathBuf};

use figment::util::nest;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Config, ConfigFlags, Environment, Mode};
use crate::error::{Error, Result};

/// What every variable of ours begins with.
const PREFIX: &str = "MERGANSER_";
/// The setting that has more names than its own variable: from weak to strong.
const FILTER: (&str, [&str; 2]) = ("log.filter", ["RUST_LOG", "MERGANSER_LOG"]);
/// Variables that are no settings of the server: the client commands' and the tests' own.
const NOT_SETTINGS: [&str; 12] = [
    "MERGANSER_BIN",
    "MERGANSER_CLIENT_CERT",
    "MERGANSER_CLIENT_KEY",
    "MERGANSER_LOG",
    "MERGANSER_PASSWORD",
    "MERGANSER_SERVER",
    "MERGANSER_SKIP_CLIENT_TESTS",
    "MERGANSER_TLS_CA",
    "MERGANSER_TLS_FINGERPRINT",
    "MERGANSER_TOKEN",
    "MERGANSER_TOKEN_FILE",
    "MERGANSER_USER",
];
/// How many letters a name may be off to be a typing mistake.
const TYPING_MISTAKES_MAX: usize = 3;

/// The configuration, with the origin of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The valid configuration.
    pub config: Config,
    figment: Figment,
}

impl Config {
    /// Merges defaults, file, environment and flags, and checks the result.
    pub fn load(flags: &ConfigFlags, environment: &Environment) -> Result<Loaded> {
        let known = Known::new();
        let mut figment = Figment::from(Layer { origin: "default".to_owned(), values: known.defaults.clone() });
        if let Some(layer) = file_layer(&known, flags, environment)? {
            figment = figment.merge(layer);
        }
        for layer in variable_layers(&known, environment)? {
            figment = figment.merge(layer);
        }
        let mode = extract(&figment)?.database.mode;
        for layer in flag_layers(&known, flags, mode)? {
            figment = figment.merge(layer);
        }
        let config = extract(&figment)?;
        config.validate()?;
        Ok(Loaded { config, figment })
    }
}

impl Loaded {
    /// The configuration as a TOML file, with a comment on each line that tells where the value comes from.
    pub fn print(&self) -> String {
        let toml = self.config.to_toml();
        let width = toml.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let mut section = "";
        let mut lines = Vec::new();
        for line in toml.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
                lines.push(line.to_owned());
            } else if let Some((key, _)) = line.split_once(" = ") {
                lines.push(format!("{line:width$}  # {}", self.origin(&format!("{section}.{key}"))));
            } else {
                lines.push(line.to_owned());
            }
        }
        lines.join("\n") + "\n"
    }

    /// Where the value of the setting `key` comes from: `default`, a file, a variable or a flag.
    pub fn origin(&self, key: &str) -> &str {
        self.figment.find_metadata(key).map_or("default", |metadata| metadata.name.as_ref())
    }
}

/// The environment variable of the setting `key`: `MERGANSER_ENGINE_THREADS` of `engine.threads`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// Values of one origin.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The settings that there are.
struct Known {
    keys: Vec<String>,
    defaults: Dict,
}

impl Known {
    fn new() -> Self {
        let defaults = toml::from_str(&Config::default().to_toml()).expect("what was written as TOML reads as TOML");
        Self { keys: Config::keys(), defaults }
    }

    /// One setting given as text, read as the default's type tells.
    fn layer(&self, key: &str, text: &str, origin: impl Into<String>) -> Result<Layer> {
        let origin = origin.into();
        let root = Value::from(self.defaults.clone());
        let Some(default) = root.find_ref(key) else {
            return Err(self.unknown(key, &origin));
        };
        let value = match default {
            Value::Dict(..) => return Err(self.unknown(key, &origin)),
            Value::Num(..) => text
                .parse::<u64>()
                .map(Value::from)
                .map_err(|_| Error::invalid(format!("`{key}` = {text} (from {origin}) is not a whole number")))?,
            Value::Bool(..) => text
                .parse::<bool>()
                .map(Value::from)
                .map_err(|_| Error::invalid(format!("`{key}` = {text} (from {origin}) is neither true nor false")))?,
            Value::String(..) | Value::Char(..) | Value::Empty(..) | Value::Array(..) => Value::from(text),
        };
        let values = nest(key, value).into_dict().unwrap_or_default();
        Ok(Layer { origin, values })
    }

    fn unknown(&self, key: &str, origin: &str) -> Error {
        let hint = match nearest(key, self.keys.iter().map(String::as_str)) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => "; --print-config shows all settings".to_owned(),
        };
        Error::invalid(format!("unknown setting `{key}` in {origin}{hint}"))
    }
}

/// The configuration file, if there is one: the one that `--config` names must be there, the user's own may be.
fn file_layer(known: &Known, flags: &ConfigFlags, environment: &Environment) -> Result<Option<Layer>> {
    let own = || environment.config_directory.as_ref().map(|directory| directory.join("merganser/merganser.toml"));
    let (path, text) = if let Some(path) = &flags.config {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        (path.clone(), text)
    } else if let Some(path) = own().filter(|path| path.exists()) {
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        (path, text)
    } else {
        return Ok(None);
    };
    let origin = path.display().to_string();
    let values: Dict =
        toml::from_str(&text).map_err(|error| Error::invalid(format!("configuration file {origin}: {error}")))?;
    for (section, value) in &values {
        match value.as_dict() {
            Some(settings) => settings.keys().try_for_each(|key| {
                let key = format!("{section}.{key}");
                if known.keys.contains(&key) { Ok(()) } else { Err(known.unknown(&key, &origin)) }
            })?,
            None => return Err(known.unknown(section, &origin)),
        }
    }
    Ok(Some(Layer { origin, values }))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let path = path.display();
    if error.kind() == std::io::ErrorKind::NotFound {
        Error::not_found(format!("configuration file not found: {path}"))
    } else {
        Error::invalid(format!("cannot read configuration file {path}: {error}")).with_source(error)
    }
}

/// The variables that are set. An empty one counts as not set, as a shell script can only empty what it inherits.
fn variable_layers(known: &Known, environment: &Environment) -> Result<Vec<Layer>> {
    let given = |name: &str| environment.variables.get(name).filter(|text| !text.is_empty());
    check_variables(known, environment)?;
    let (filter, names) = FILTER;
    let own: Vec<(String, String)> = known.keys.iter().map(|key| (key.clone(), variable(key))).collect();
    let also = names.map(|name| (filter.to_owned(), name.to_owned()));
    also.into_iter()
        .chain(own)
        .filter_map(|(key, name)| given(&name).map(|text| known.layer(&key, text, name)))
        .collect()
}

/// Refuses a variable that was meant for a setting and is not its name: one that begins with a section, or looks like a
/// setting. Others are left alone: orchestrators make variables from the names of services.
fn check_variables(known: &Known, environment: &Environment) -> Result<()> {
    let names: Vec<String> = known.keys.iter().map(|key| variable(key)).collect();
    for name in environment.variables.keys() {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if names.contains(name) || NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let without_section = known
            .keys
            .iter()
            .find(|key| key.split_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case(rest) && last.len() > 4));
        let near = without_section
            .map(|key| variable(key))
            .or_else(|| nearest(name, names.iter().map(String::as_str)).map(str::to_owned));
        let in_section = known
            .defaults
            .keys()
            .any(|section| rest.strip_prefix(&section.to_uppercase()).is_some_and(|key| key.starts_with('_')));
        if let Some(near) = near {
            return Err(Error::invalid(format!("unknown environment variable {name}; did you mean {near}?")));
        } else if in_section {
            return Err(Error::invalid(format!(
                "unknown environment variable {name}; --print-config shows all settings"
            )));
        }
    }
    Ok(())
}

/// The flags that are given; `--set` comes last and so is the strongest. `mode` is what the weaker sources say.
fn flag_layers(known: &Known, flags: &ConfigFlags, mode: Mode) -> Result<Vec<Layer>> {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut given: Vec<(&str, String, &str)> = Vec::new();
    for (key, value, flag) in [
        ("server.listen", flags.listen.clone(), "--listen"),
        ("engine.memory_limit", flags.memory_limit.clone(), "--memory-limit"),
        ("engine.threads", flags.threads.clone(), "--threads"),
        ("engine.temp_directory", flags.temp_directory.as_ref().map(text), "--temp-directory"),
        ("log.format", flags.log_format.map(|format| format.word().to_owned()), "--log-format"),
        ("database.path", flags.path.as_ref().map(text), "PATH"),
        ("tls.self_signed", flags.tls_self_signed.then(|| true.to_string()), "--tls-self-signed"),
        ("server.insecure", flags.insecure.then(|| true.to_string()), "--insecure"),
    ] {
        given.extend(value.map(|value| (key, value, flag)));
    }
    let chosen = [
        (flags.ephemeral, Mode::Ephemeral, "--ephemeral"),
        (flags.memory, Mode::Memory, "--memory"),
        (flags.read_only, Mode::ReadOnly, "--read-only"),
        // A path alone stands against a mode without one, not against read-only.
        (flags.path.is_some() && !flags.read_only && !mode.has_path(), Mode::Persistent, "PATH"),
    ];
    for (_, mode, flag) in chosen.into_iter().filter(|(chosen, ..)| *chosen) {
        given.push(("database.mode", mode.word().to_owned(), flag));
        if !mode.has_path() {
            given.push(("database.path", String::new(), flag));
        }
    }
    let mut layers: Vec<Layer> =
        given.into_iter().map(|(key, value, flag)| known.layer(key, &value, flag)).collect::<Result<_>>()?;
    for setting in &flags.set {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("--set {setting} is not like engine.query_timeout=30s")))?;
        layers.push(known.layer(key.trim(), value.trim(), "--set")?);
    }
    Ok(layers)
}

fn extract(figment: &Figment) -> Result<Config> {
    figment.extract().map_err(|error| {
        let key = error.path.join(".");
        let origin = figment.find_metadata(&key).map_or("default", |metadata| metadata.name.as_ref());
        Error::invalid(format!("`{key}` (from {origin}): {}", error.kind))
    })
}

/// The candidate that `name` most likely stands for, if one is near.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    candidates
        .map(|candidate| {
            // The right key in the wrong section, or without one, is as near as it gets.
            let moved = candidate.rsplit('.').next() == Some(last);
            (if moved { 1 } else { edits(name, candidate) }, candidate)
        })
        .min()
        .filter(|(distance, _)| *distance <= TYPING_MISTAKES_MAX)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete or replace to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
