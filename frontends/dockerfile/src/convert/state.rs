//! What a stage has come to: a file system, and the settings that the next step runs with. A value: cloned where stages fork.

use crate::convert::graph::{Network, Output, Platform};
use crate::shell::Env;

/// Variables in the order of the last write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvList(Vec<(String, String)>);

impl EnvList {
    /// Sets a variable; it moves to the end.
    pub fn set(&mut self, key: &str, value: &str) {
        self.remove(key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// Forgets a variable.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }

    /// The value of a variable.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// `K=V` in order.
    pub fn to_vec(&self) -> Vec<String> {
        self.0.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl Env for EnvList {
    fn get(&self, name: &str) -> Option<&str> {
        Self::get(self, name)
    }
}

/// What a stage has come to.
#[derive(Debug, Clone)]
pub struct State {
    /// The file system; `None` is an empty one.
    pub output: Option<Output>,
    /// Variables of steps.
    pub env: EnvList,
    /// Working directory, absolute.
    pub dir: String,
    /// User of steps, empty for root.
    pub user: String,
    /// Host name of steps.
    pub hostname: String,
    /// Platform in its normal form, if the state says one; otherwise it is the target's.
    pub platform: Option<Platform>,
    /// Network of steps that do not choose.
    pub network: Network,
}

impl State {
    /// A file system and nothing set.
    pub fn new(output: Option<Output>, platform: Option<Platform>) -> Self {
        Self {
            output,
            env: EnvList::default(),
            dir: "/".into(),
            user: String::new(),
            hostname: String::new(),
            platform: platform.map(|p| p.normalize()),
            network: Network::Sandbox,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_write_goes_last() {
        let mut env = EnvList::default();
        env.set("A", "1");
        env.set("B", "2");
        env.set("A", "3");
        assert_eq!(env.to_vec(), ["B=2", "A=3"]);
        assert_eq!(env.get("A"), Some("3"));
    }
}
