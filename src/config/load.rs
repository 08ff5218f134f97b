//! Reads the configuration: the file, then the environment over it, then the files that hold secrets.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::{Config, Described, Listener, section::Setting};

/// Variables that are not settings: the name of the file itself, and those of test runs.
const OTHER_VARIABLES: [&str; 4] = ["MYELIN_CONFIG", "MYELIN_BIN", "MYELIN_TEST_", "MYELIN_SYTEST_"];

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not TOML")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// There is no such setting.
    #[error("unknown setting `{name}`{}", .nearest.as_ref().map(|name| format!(", did you mean `{name}`?")).unwrap_or_default())]
    Unknown {
        /// What was set.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A secret is given twice.
    #[error("`{0}` and `{0}_file` are both set")]
    Twice(String),
    /// A setting has a value that it cannot have.
    #[error("in `{section}`: {message}")]
    Value {
        /// The section.
        section: String,
        /// What is wrong.
        message: String,
    },
}

impl Config {
    /// The configuration in this file, or without one the defaults, with these variables of the environment.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => {
                let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) };
                read(path)?.parse::<Table>().map_err(syntax)?
            }
            None => Table::new(),
        };
        let sections = Self::describe();
        check_keys(&table, &sections)?;
        apply_variables(&mut table, &sections, variables)?;
        read_secrets(&mut table, &sections)?;
        let config = Self::from_table(table)?;
        config.check()?;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

fn check_keys(table: &Table, sections: &[Described]) -> Result<(), ConfigError> {
    let section = |name: &str| sections.iter().find(|section| section.name == name && !name.is_empty());
    for (name, value) in table {
        match (section(name), value) {
            (Some(section), Value::Table(table)) => check_section(table, section, sections)?,
            (Some(section), Value::Array(tables)) if section.is_list => {
                for table in tables.iter().filter_map(Value::as_table) {
                    check_section(table, section, sections)?;
                }
            }
            (Some(_), _) => {}
            (None, _) => check_key("", name, sections)?,
        }
    }
    Ok(())
}

fn check_section(table: &Table, section: &Described, sections: &[Described]) -> Result<(), ConfigError> {
    table.keys().try_for_each(|key| check_key(section.name, key, sections))
}

fn check_key(section: &str, key: &str, sections: &[Described]) -> Result<(), ConfigError> {
    let known = sections.iter().filter(|known| known.name == section).flat_map(|known| &known.settings);
    let names = |setting: &Setting| key == setting.name || (setting.is_secret && is_file_of(key, setting));
    if known.into_iter().any(names) {
        return Ok(());
    }
    let name = full_name(section, key);
    Err(ConfigError::Unknown { nearest: nearest(&name, sections), name })
}

fn is_file_of(key: &str, setting: &Setting) -> bool {
    key.strip_suffix("_file") == Some(setting.name)
}

fn full_name(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The known name that looks most like this one, if any does.
fn nearest(name: &str, sections: &[Described]) -> Option<String> {
    let known = sections.iter().flat_map(|section| {
        let names = section.settings.iter().map(|setting| full_name(section.name, setting.name));
        names.chain((!section.name.is_empty()).then(|| section.name.to_owned()))
    });
    // The right key in the wrong section is likelier than a mistyped section with a mistyped key.
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |other: &String| {
        strsim::jaro_winkler(name, other).max(strsim::jaro_winkler(&last(name), &last(other)) - 0.01)
    };
    known
        .map(|other| (likeness(&other), other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

fn apply_variables(
    table: &mut Table,
    sections: &[Described],
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix("MYELIN_") else { continue };
        if OTHER_VARIABLES.iter().any(|other| variable.starts_with(other)) {
            continue;
        }
        let name = name.to_lowercase();
        let (section, key) = name.split_once("__").unwrap_or(("", &name));
        if section.is_empty() && sections.iter().any(|section| section.is_list && section.name == key) {
            let list = parse_list(&text).ok_or_else(|| ConfigError::Value {
                section: key.to_owned(),
                message: format!("{variable} is no TOML list of tables"),
            })?;
            table.insert(key.to_owned(), list);
            check_keys(table, sections)?;
            continue;
        }
        check_key(section, key, sections)?;
        let settings =
            sections.iter().filter(|known| known.name == section).flat_map(|known| &known.settings);
        let setting = settings.into_iter().find(|setting| setting.name == key);
        let value = setting.map_or(Value::String(text.clone()), |setting| setting.from_variable(&text));
        let target = match section {
            "" => &mut *table,
            section => subtable(table, section)?,
        };
        // What the environment says wins over both forms in the file.
        target.remove(key.strip_suffix("_file").unwrap_or(key));
        target.remove(&format!("{key}_file"));
        target.insert(key.to_owned(), value);
    }
    Ok(())
}

fn parse_list(text: &str) -> Option<Value> {
    text.parse::<Value>()
        .ok()
        .filter(|value| value.as_array().is_some_and(|list| list.iter().all(Value::is_table)))
}

fn subtable<'a>(table: &'a mut Table, section: &str) -> Result<&'a mut Table, ConfigError> {
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    entry.as_table_mut().ok_or_else(|| ConfigError::Value {
        section: section.to_owned(),
        message: "it has to be a table".to_owned(),
    })
}

fn read_secrets(table: &mut Table, sections: &[Described]) -> Result<(), ConfigError> {
    for section in sections.iter().filter(|section| !section.name.is_empty()) {
        let Some(values) = table.get_mut(section.name).and_then(Value::as_table_mut) else { continue };
        for setting in section.settings.iter().filter(|setting| setting.is_secret) {
            let Some(path) = values.remove(&format!("{}_file", setting.name)) else { continue };
            if values.contains_key(setting.name) {
                return Err(ConfigError::Twice(full_name(section.name, setting.name)));
            }
            let path = PathBuf::from(path.as_str().unwrap_or_default());
            let secret = read(&path)?.trim_end_matches(['\r', '\n']).to_owned();
            values.insert(setting.name.to_owned(), Value::String(secret));
        }
        // A variable that is not set, or a file that was never filled. Nothing may be open to who knows an empty secret.
        let is_empty = |setting: &&Setting| values.get(setting.name).and_then(Value::as_str) == Some("");
        if let Some(setting) = section.settings.iter().filter(|setting| setting.is_secret).find(is_empty) {
            return Err(ConfigError::Value {
                section: section.name.to_owned(),
                message: format!("`{}` is empty: leave it out, or set it", setting.name),
            });
        }
    }
    Ok(())
}

/// Takes a section out of the table; its defaults when it is not there.
pub(super) fn section<S: DeserializeOwned + Default>(
    table: &mut Table,
    name: &str,
) -> Result<S, ConfigError> {
    table.remove(name).map_or_else(|| Ok(S::default()), |value| parse(value, name))
}

/// Takes the listeners out of the table; one with the defaults when there are none.
pub(super) fn listeners(table: &mut Table) -> Result<Vec<Listener>, ConfigError> {
    let listeners: Vec<Listener> = section(table, "listeners")?;
    Ok(if listeners.is_empty() { vec![Listener::default()] } else { listeners })
}

/// What is left when all sections are taken out.
pub(super) fn rest<S: DeserializeOwned>(table: Table) -> Result<S, ConfigError> {
    parse(Value::Table(table), "the top")
}

fn parse<'de, S: Deserialize<'de>>(value: Value, name: &str) -> Result<S, ConfigError> {
    let wrong = |error: toml::de::Error| ConfigError::Value {
        section: name.to_owned(),
        message: error.to_string().trim_end().replace('\n', ": "),
    };
    S::deserialize(value).map_err(wrong)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
