//! The commented configuration that `myelin config example` prints, made from the definitions themselves.

use std::fmt::Write as _;

use super::{Config, Described};

impl Config {
    /// A file in which every setting stands, with what it does and its default, commented out.
    pub fn example() -> String {
        let mut text = String::from(
            "# Configuration of Myelin. Every setting is optional; what is commented out shows the default, or an\n\
             # example where there is none. MYELIN_SECTION__KEY in the environment wins over `key` in [section].\n",
        );
        for section in Self::describe() {
            write_section(&mut text, &section);
        }
        text
    }
}

fn write_section(text: &mut String, section: &Described) {
    text.push('\n');
    write_comment(text, section.about);
    match (section.name, section.is_list) {
        ("", _) => {}
        // A list with an empty table in it would not be the default.
        (name, true) => drop(writeln!(text, "# [[{name}]]")),
        (name, false) => drop(writeln!(text, "[{name}]")),
    }
    for setting in &section.settings {
        text.push('\n');
        write_comment(text, setting.about);
        if setting.is_secret {
            let _ = writeln!(text, "# Or the name of a file that holds it: {}_file.", setting.name);
        }
        if let Some(value) = setting.shown() {
            let _ = writeln!(text, "# {} = {value}", setting.name);
        }
    }
}

fn write_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "# {}", line.trim());
    }
}

#[cfg(test)]
mod tests {
    use toml::{Table, Value};

    use super::*;

    #[test]
    fn example_as_it_stands_is_the_default() {
        let table: Table = Config::example().parse().unwrap();
        assert!(table.values().all(|value| value.as_table().is_some_and(Table::is_empty)), "{table:?}");
    }

    #[test]
    fn example_with_everything_set_is_valid_and_complete() {
        let is_setting = |line: &str| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        };
        let lines: Vec<String> = Config::example()
            .lines()
            .filter(|line| is_setting(line))
            .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned())
            .collect();
        let table: Table = lines.join("\n").parse().unwrap();
        for section in Config::describe() {
            let values = match table.get(section.name) {
                Some(Value::Array(list)) => list[0].as_table().unwrap(),
                Some(section) => section.as_table().unwrap(),
                None => &table,
            };
            for setting in &section.settings {
                assert!(values.contains_key(setting.name), "{} is not in the example", setting.name);
                assert!(setting.shown().is_some(), "{} shows no value", setting.name);
            }
        }
        Config::from_table(table).unwrap();
    }
}
