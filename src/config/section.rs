//! What a section of the configuration is made of: one definition gives the struct, its defaults, the check for
//! unknown keys and the commented example, so that these cannot disagree.

use std::{any::TypeId, fmt};

use serde::{Deserialize, Serialize, Serializer};
use toml::Value;

/// A text that is shown nowhere: not in logs, not in the example.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("secret")
    }
}

/// One setting, as its definition describes it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its key.
    pub name: &'static str,
    /// What it does.
    pub about: &'static [&'static str],
    /// What it is when nobody sets it. `None`: absent.
    pub default: Option<Value>,
    /// What it may look like, when there is no default to show.
    pub example: Option<Value>,
    /// It may also be given as the name of a file, under its name with `_file`.
    pub is_secret: bool,
}

impl Setting {
    /// A setting of type `T`.
    pub fn of<T: Serialize + 'static>(
        name: &'static str,
        about: &'static [&'static str],
        default: &T,
        example: Option<&'static str>,
    ) -> Self {
        let is_secret = TypeId::of::<T>() == TypeId::of::<Option<Secret>>();
        let example = example.map(|text| text.parse().expect("examples in definitions are TOML values"));
        Self { name, about, default: Value::try_from(default).ok(), example, is_secret }
    }

    /// What it looks like.
    pub fn shown(&self) -> Option<&Value> {
        self.default.as_ref().or(self.example.as_ref())
    }

    /// The value that a variable of the environment stands for: its text where the setting is one, else TOML.
    pub fn from_variable(&self, text: &str) -> Value {
        match self.shown() {
            Some(Value::String(_)) | None => Value::String(text.to_owned()),
            Some(_) => text.parse().unwrap_or_else(|_| Value::String(text.to_owned())),
        }
    }
}

/// A section of the configuration.
pub trait Section {
    /// What it is about.
    const ABOUT: &'static [&'static str];

    /// Its settings, in the order of their definition.
    fn settings() -> Vec<Setting>;
}

/// Defines a section: `name: Type = default;` or, where the default is no value, `name: Option<Type> = None => "example";`
/// with the example as TOML. The doc comments are the documentation of the setting.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr $(=> $example:literal)?;)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(default)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl $crate::config::section::Section for $section {
            const ABOUT: &'static [&'static str] = &[$($about),+];

            fn settings() -> Vec<$crate::config::section::Setting> {
                let defaults = Self::default();
                vec![$($crate::config::section::Setting::of(
                    stringify!($name),
                    &[$($doc),+],
                    &defaults.$name,
                    None::<&'static str>$(.or(Some($example)))?,
                ),)+]
            }
        }
    };
}

pub(crate) use section;
