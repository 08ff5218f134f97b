//! JSON as text around JSON that is text already.

use std::fmt::Write as _;

use crate::event_format::push_text;

/// Writes JSON objects without looking at what is in them.
pub(super) struct Writer(String);

impl Default for Writer {
    fn default() -> Self {
        // Most answers are about so long.
        Self(String::with_capacity(1024))
    }
}

impl Writer {
    /// What was written.
    pub fn into_text(self) -> String {
        self.0
    }

    pub fn open(&mut self) {
        self.0.push('{');
    }

    pub fn close(&mut self) {
        self.0.push('}');
    }

    pub fn separate(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    pub fn key(&mut self, key: &str) {
        self.separate();
        push_text(&mut self.0, key);
        self.0.push(':');
    }

    pub fn text(&mut self, text: &str) {
        push_text(&mut self.0, text);
    }

    pub fn number(&mut self, key: &str, number: impl std::fmt::Display) {
        self.key(key);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{number}");
    }

    pub fn flag(&mut self, key: &str, flag: bool) {
        self.key(key);
        self.0.push_str(if flag { "true" } else { "false" });
    }

    pub fn list(&mut self, key: &str, items: &[String]) {
        self.key(key);
        self.0.push('[');
        for item in items {
            self.separate();
            self.0.push_str(item);
        }
        self.0.push(']');
    }

    pub fn texts(&mut self, key: &str, texts: &[impl AsRef<str>]) {
        self.key(key);
        self.0.push('[');
        for text in texts {
            self.separate();
            self.text(text.as_ref());
        }
        self.0.push(']');
    }

    pub fn events(&mut self, key: &str, events: &[String]) {
        self.key(key);
        self.open();
        self.list("events", events);
        self.close();
    }

    pub fn object_of_events(&mut self, key: &str, events: &[String]) {
        self.open();
        self.events(key, events);
        self.close();
    }

    pub fn map<'m, K: AsRef<str> + 'm, V: 'm>(
        &mut self,
        entries: impl IntoIterator<Item = (&'m K, &'m V)>,
        mut write: impl FnMut(&mut Self, &V),
    ) {
        self.open();
        for (key, value) in entries {
            self.key(key.as_ref());
            write(self, value);
        }
        self.close();
    }
}
