//! `docs/configuration.md`: the settings, of the structs in `src/config/`, of their defaults, and of what each flag does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, Command, FromArgMatches};
use merganser::config::{Config, ConfigFlags, Environment, Loaded, variable};

use super::sources::{Item, fields};
use super::{check, table};

const SOURCES: [&str; 3] = ["src/config/mod.rs", "src/config/auth.rs", "src/config/telemetry.rs"];
/// Where a comment tells a default that depends on the machine.
const DEFAULT: &str = " Default: ";

#[test]
fn the_page_has_every_setting() {
    let said = fields(&SOURCES);
    let of = |name: &str| said.get(name).unwrap_or_else(|| panic!("{name} has no comment in src/config"));
    let (values, flags) = (values(&Config::default().to_toml()), flags());
    let mut text = String::new();
    let mut section = "";
    let keys = Config::keys();
    for key in &keys {
        let (name, _) = key.split_once('.').expect("a key has a section");
        if name == section {
            continue;
        }
        section = name;
        let whole = of(&format!("Config.{section}"));
        let rows = keys.iter().filter(|key| key.split_once('.').is_some_and(|(name, _)| name == section));
        let rows = rows.map(|key| row(key, of(&field(whole, key)), &values[key], flags.get(key)));
        let table = table(["setting", "flag and variable", "default", ""], rows);
        write!(text, "## {section}\n\n{}\n\n{table}\n", whole.comment.join(" ")).expect("a text can be written");
    }
    check("configuration.md", &text);
}

/// The field of the section's struct that `key` names.
fn field(section: &Item, key: &str) -> String {
    let (_, name) = key.split_once('.').expect("a key has a section");
    format!("{}.{name}", section.kind)
}

fn row(key: &str, item: &Item, value: &str, flags: Option<&Vec<String>>) -> [String; 4] {
    let about = item.comment.join(" ");
    let (about, default) = match about.split_once(DEFAULT) {
        Some((about, default)) => (about.to_owned(), default.trim_end_matches('.').to_owned()),
        None if value.is_empty() => (about, String::new()),
        None => (about, format!("`{value}`")),
    };
    let flags = flags.into_iter().flatten().map(|flag| format!("`{flag}`"));
    let ways: Vec<String> = flags.chain([format!("`{}`", variable(key))]).collect();
    [format!("`{key}`"), ways.join(", "), default, about]
}

/// The values of a configuration in TOML, by their keys.
fn values(toml: &str) -> BTreeMap<String, String> {
    let values = toml.lines().filter_map(|line| line.split_once(" = "));
    let values = values.map(|(_, value)| value.trim_matches('"').to_owned());
    Config::keys().into_iter().zip(values).collect()
}

/// The flags of each setting, told by what they do: each is given, and the settings are those whose value then comes from it.
fn flags() -> BTreeMap<String, Vec<String>> {
    let command = ConfigFlags::augment_args(Command::new("serve"));
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for argument in command.get_arguments() {
        let value = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
        let (spelled, shown) = match (argument.get_long(), &value) {
            (Some(long), Some(value)) if argument.get_action().takes_values() => {
                (format!("--{long}"), format!("--{long} {value}"))
            }
            (Some(long), _) => (format!("--{long}"), format!("--{long}")),
            (None, value) => {
                let name = value.clone().expect("a positional argument has a name");
                (name.clone(), name)
            }
        };
        let given = ["", "1", "1GiB", "127.0.0.1:0", "json"].iter().find_map(|sample| load(&command, &spelled, sample));
        let Some(loaded) = given else { continue };
        let values = values(&loaded.config.to_toml());
        // A mode without a file also empties the path: that is not what it is for.
        for (key, _) in values.iter().filter(|(key, value)| loaded.origin(key) == spelled && !value.is_empty()) {
            flags.entry(key.clone()).or_default().push(shown.clone());
        }
    }
    flags
}

/// The configuration that a flag alone makes, if it takes `sample` and is about a setting.
fn load(command: &Command, flag: &str, sample: &str) -> Option<Loaded> {
    let flag = Some(flag).filter(|flag| flag.starts_with("--"));
    let arguments = ["serve"].into_iter().chain(flag).chain(Some(sample).filter(|sample| !sample.is_empty()));
    let matches = command.clone().try_get_matches_from(arguments).ok()?;
    let flags = ConfigFlags::from_arg_matches(&matches).ok()?;
    let loaded = Config::load(&flags, &Environment::default()).ok()?;
    let wanted = flag.unwrap_or("PATH");
    Config::keys().iter().any(|key| loaded.origin(key) == wanted).then_some(loaded)
}

#[test]
fn flags_are_told_by_what_they_do() {
    let flags = flags();
    let of = |key: &str| flags.get(key).cloned().unwrap_or_default();
    assert_eq!(of("engine.threads"), ["--threads NUMBER"]);
    assert_eq!(of("database.mode"), ["--ephemeral", "--memory", "--read-only"]);
    assert_eq!(of("database.path"), ["PATH"]);
    assert_eq!(of("tls.self_signed"), ["--tls-self-signed"]);
    assert!(of("engine.query_timeout").is_empty());
}
