//! `Settings`: the configuration file as values. Registry tables are buildkitd.toml's (spec G); an unknown key is an error,
//! because a misspelt `insecure` must not be ignored.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rhost_registry::RegistryConfig;
use serde::Deserialize;

use crate::error::{BuildError, Kind};
use crate::gc::GcSettings;
use crate::git::GitSettings;
use crate::rules::{FrontendTable, PolicyTable, RuleFile};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[registry."HOST"]` tables.
    #[serde(default)]
    pub registry: RegistryConfig,
    /// `[emulation]` table.
    #[serde(default)]
    pub emulation: EmulationSettings,
    /// `[build]` table.
    #[serde(default)]
    pub build: BuildSettings,
    /// `[http]`: how long servers are waited for.
    #[serde(default)]
    pub http: HttpSettings,
    /// `[gc]`: how much disk the store may take.
    #[serde(default)]
    pub gc: GcSettings,
    /// `[git]`: how git sources are fetched.
    #[serde(default)]
    pub git: GitSettings,
    /// `[frontend]`: which frontend reads what.
    #[serde(default)]
    pub(crate) frontend: FrontendTable,
    /// `[policy]`: what builds may use.
    #[serde(default)]
    pub(crate) policy: PolicyTable,
    /// Both, read.
    #[serde(skip)]
    pub(crate) rules: Option<Arc<RuleFile>>,
}

/// `[build]`: what builds do unless their command line says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildSettings {
    /// `--normalize-modes`.
    #[serde(default)]
    pub normalize_modes: bool,
}

/// `[emulation]`: where emulators of other platforms' programs are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmulationSettings {
    /// Directories that are looked in for `qemu-ARCH-static` and `qemu-ARCH`, in order. Empty: nothing is emulated but by the
    /// host's own registrations.
    pub directories: Vec<PathBuf>,
}

impl Default for EmulationSettings {
    fn default() -> Self {
        Self { directories: rhost_exec::DIRECTORIES.map(PathBuf::from).to_vec() }
    }
}

/// `[http]`: patience with registries and servers of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpSettings {
    /// For a connection to be made; 15 s when absent.
    #[serde(default, deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
    /// For the next byte to come; 60 s when absent.
    #[serde(default, deserialize_with = "duration")]
    pub idle_timeout: Option<Duration>,
}

/// `30s`, `2m`, or a number of seconds; not nothing.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Number(u64),
        Text(String),
    }
    let found = match Raw::deserialize(deserializer)? {
        Raw::Number(seconds) => Duration::from_secs(seconds),
        Raw::Text(text) => crate::gc::parse_duration(&text).map_err(serde::de::Error::custom)?,
    };
    if found.is_zero() {
        return Err(serde::de::Error::custom("nothing answers in no time: wanted a second or more"));
    }
    Ok(Some(found))
}

impl Settings {
    /// Reads the text of a configuration file. The error names line, column and key.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Reads the text of the configuration file `path`, and the keys that its rules name.
    ///
    /// # Errors
    /// It is wrong, with the line.
    pub fn read(path: &Path, text: &str) -> Result<Self, BuildError> {
        let wrong = |error| BuildError::new(Kind::Request, format!("configuration `{}`: {error}", path.display()));
        let mut settings = Self::parse(text).map_err(wrong)?;
        let (frontend, policy) = (std::mem::take(&mut settings.frontend), std::mem::take(&mut settings.policy));
        settings.rules = Some(RuleFile::of_user(path, text, frontend, policy)?);
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_buildkitd_registry_tables() {
        let settings = Settings::parse(
            "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\"]\n[registry.\"r.example\"]\nhttp = true\ninsecure = true\nca = [\"/a.pem\"]\n[[registry.\"r.example\".keypair]]\nkey = \"k\"\ncert = \"c\"\n",
        )
        .expect("valid");
        assert_eq!(settings.registry.hosts["docker.io"].mirrors, ["127.0.0.1:5000"]);
        assert_eq!(settings.registry.hosts["r.example"].http, Some(true));
        assert_eq!(settings.registry.hosts["r.example"].keypair[0].cert, std::path::PathBuf::from("c"));
    }

    #[test]
    fn patience_is_a_time() {
        let http = |text: &str| Settings::parse(&format!("[http]\n{text}\n")).map(|settings| settings.http);
        let settings = http("connectTimeout = \"2m\"\nidleTimeout = 5").expect("valid");
        assert_eq!(settings.connect_timeout, Some(Duration::from_secs(120)));
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(5)));
        assert!(
            http("idleTimeout = 0").is_err()
                && http("idleTimeout = \"soon\"").is_err()
                && http("idletimeout = 1").is_err()
        );
    }

    #[test]
    fn emulators_are_looked_for_where_they_are_installed_unless_told() {
        assert!(Settings::default().emulation.directories.contains(&PathBuf::from("/usr/bin")));
        let settings = Settings::parse("[emulation]\ndirectories = [\"/opt/qemu\"]\n").expect("valid");
        assert_eq!(settings.emulation.directories, [PathBuf::from("/opt/qemu")]);
    }

    #[test]
    fn builds_have_defaults() {
        assert!(!Settings::default().build.normalize_modes);
        assert!(Settings::parse("[build]\nnormalizeModes = true\n").expect("valid").build.normalize_modes);
        assert!(Settings::parse("[build]\nnormalize = true\n").is_err());
    }

    #[test]
    fn refuses_a_misspelt_key_and_names_it() {
        let error = Settings::parse("[registry.\"a\"]\ninsecur = true\n").expect_err("unknown key").to_string();
        assert!(error.contains("insecur") && error.contains("line 2"), "{error}");
    }
}
