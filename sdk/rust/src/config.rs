//! `ImageConfig`: the OCI image config as JSON, with short forms for the usual fields. What it does not know it keeps.
use serde_json::{Map, Value, json};

use crate::Platform;

/// An OCI image config.
#[derive(Clone, Debug)]
pub struct ImageConfig(Map<String, Value>);

impl ImageConfig {
    /// An empty one.
    pub fn new(platform: &Platform) -> Self {
        let mut config = Map::new();
        config.insert("architecture".into(), json!(platform.architecture));
        config.insert("os".into(), json!(platform.os));
        if !platform.variant.is_empty() {
            config.insert("variant".into(), json!(platform.variant));
        }
        Self(config)
    }

    /// Reads a base image's. `None` if it is no JSON object. History and layers are the base's own: the exporter adds to them.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }

    /// What `Outcome::add` takes.
    pub fn to_json(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }

    /// A field of the part about running (`Cmd`, `WorkingDir`, …).
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get("config")?.get(field)
    }

    /// Sets a field of the part about running.
    pub fn set(&mut self, field: &str, value: Value) {
        let section = self.0.entry("config").or_insert_with(|| json!({}));
        if !section.is_object() {
            *section = json!({});
        }
        section[field] = value;
    }

    /// The environment, as `(name, value)`.
    pub fn env(&self) -> Vec<(String, String)> {
        let list = self.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
        let pair = |text: &Value| {
            let (name, value) = text.as_str()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        list.iter().filter_map(pair).collect()
    }

    /// Sets a variable, in the place it had.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.env();
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => env.push((name.to_owned(), value.to_owned())),
        }
        self.set("Env", env.iter().map(|(name, value)| format!("{name}={value}")).collect());
    }

    /// Adds a label.
    pub fn set_label(&mut self, name: &str, value: &str) {
        let mut labels = self.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
        labels.insert(name.to_owned(), json!(value));
        self.set("Labels", Value::Object(labels));
    }

    /// The working directory; `/` if none is set.
    pub fn workdir(&self) -> &str {
        self.get("WorkingDir").and_then(Value::as_str).filter(|path| !path.is_empty()).unwrap_or("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_does_not_know_and_the_order_of_variables() {
        let mut config =
            ImageConfig::parse(br#"{"os":"linux","x":1,"config":{"Env":["PATH=/bin","A=1"],"y":2}}"#).unwrap();
        config.set_env("PATH", "/usr/bin");
        config.set_env("B", "a=b");
        config.set_label("l", "v");
        assert_eq!(config.env()[0], ("PATH".into(), "/usr/bin".into()));
        assert_eq!(config.env()[2], ("B".into(), "a=b".into()));
        assert_eq!(config.workdir(), "/");
        let text = String::from_utf8(config.to_json()).unwrap();
        assert!(
            text.contains(r#""x":1"#) && text.contains(r#""y":2"#) && text.contains(r#""Labels":{"l":"v"}"#),
            "{text}"
        );
    }

    #[test]
    fn odd_configs_do_not_panic() {
        assert!(ImageConfig::parse(b"[]").is_none());
        let mut config = ImageConfig::parse(br#"{"config":[1],"history":null}"#).unwrap();
        config.set("Cmd", json!(["x"]));
        assert_eq!(config.get("Cmd"), Some(&json!(["x"])));
    }
}
