//! The image config: OCI's fields and Docker's, written byte for byte as BuildKit writes them, since its digest is the image's id.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::convert::golang;
use crate::convert::graph::Platform;

/// Comment on every history entry that the frontend adds.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// Search path of an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An image config. Field order is BuildKit's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the OCI image config")]
pub struct Image {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub author: String,
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub variant: String,
    #[serde(deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    #[serde(deserialize_with = "null_is_default")]
    pub config: Config,
}

/// The layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the OCI image config")]
pub struct RootFs {
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    pub diff_ids: Option<Vec<String>>,
}

/// How a layer came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the OCI image config")]
pub struct History {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub created_by: String,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub author: String,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub comment: String,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
}

/// What a container of the image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the fields are those of the OCI image config, and Docker's")]
pub struct Config {
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub user: String,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "keys", serialize_with = "as_keys")]
    pub exposed_ports: BTreeSet<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "keys", serialize_with = "as_keys")]
    pub volumes: BTreeSet<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
}

/// How the health of a container is asked for; times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the fields are those of Docker's image config")]
pub struct Healthcheck {
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub retries: i64,
}

fn keys<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<String>, D::Error> {
    let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(d)?.unwrap_or_default();
    Ok(map.into_keys().collect())
}

fn as_keys<S: Serializer>(set: &BTreeSet<String>, s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(set.iter().map(|k| (k, serde_json::Map::new())))
}

/// A time in its shortest form: no trailing zeros in the fraction.
fn time<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.map(|text| match text.split_once('.') {
        Some((whole, rest)) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at(digits);
            let fraction = fraction.trim_end_matches('0');
            let dot = if fraction.is_empty() { "" } else { "." };
            format!("{whole}{dot}{fraction}{zone}")
        }
        None => text,
    }))
}

impl Image {
    /// Reads a config from a registry. Unknown fields are dropped.
    ///
    /// # Errors
    /// When it is no image config.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// What `FROM scratch` starts with.
    pub fn empty(platform: &Platform) -> Self {
        let mut image = Self::default();
        image.set_platform(platform);
        image.rootfs.kind = "layers".into();
        image.config.working_dir = "/".into();
        if platform.os != "windows" {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        image
    }

    /// The config as JSON.
    ///
    /// # Panics
    /// Never: every field can be written.
    pub fn to_json(&self) -> String {
        golang::escape_json(&serde_json::to_string(self).expect("plain data"))
    }

    /// Platform of the image.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Replaces the platform.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.os.clone_from(&platform.os);
        self.architecture.clone_from(&platform.architecture);
        self.variant.clone_from(&platform.variant);
        self.os_version.clone_from(&platform.os_version);
        self.os_features.clone_from(&platform.os_features);
    }

    /// The image has no layers at all.
    pub fn is_scratch(&self) -> bool {
        self.rootfs.diff_ids.as_ref().is_none_or(Vec::is_empty) && self.history.iter().all(|h| h.empty_layer)
    }

    /// Adds a history entry. `created` is an RFC 3339 time, if builds are to be dated.
    pub fn commit(&mut self, created_by: String, empty_layer: bool, created: Option<&str>) {
        self.history.push(History {
            created: created.map(str::to_owned),
            created_by,
            author: String::new(),
            comment: HISTORY_COMMENT.into(),
            empty_layer,
        });
    }

    /// Sets a variable in its place, or at the end.
    pub fn set_env(&mut self, key: &str, value: &str) {
        let entry = format!("{key}={value}");
        let place = self.config.env.iter_mut().find(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k) == key);
        match place {
            Some(place) => *place = entry,
            None => self.config.env.push(entry),
        }
    }

    /// The command line of a shell-form instruction.
    pub fn with_shell(&self, args: &[String]) -> Vec<String> {
        let words = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        let mut shell: Vec<String> = if !self.config.shell.is_empty() {
            self.config.shell.clone()
        } else if self.os == "windows" {
            words(&["cmd", "/S", "/C"])
        } else {
            words(&["/bin/sh", "-c"])
        };
        shell.push(args.join(" "));
        shell
    }
}

/// Seconds since 1970 as an RFC 3339 time in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from a day count; eras of 400 years that begin on 1 March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn round_trip_and_order() {
        let json = r#"{"config":{"Labels":{"b":"<","a":"1"},"Cmd":null,"Volumes":{"/v":{}},"Unknown":1},"created":"2024-01-02T03:04:05.1200Z","os":"linux","architecture":"amd64","rootfs":{"diff_ids":["sha256:x"],"type":"layers"}}"#;
        assert_eq!(
            Image::parse(json.as_bytes()).unwrap().to_json(),
            r#"{"created":"2024-01-02T03:04:05.12Z","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:x"]},"config":{"Volumes":{"/v":{}},"Labels":{"a":"1","b":"\u003c"}}}"#
        );
        let empty = Image::empty(&Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() });
        assert!(empty.is_scratch());
        assert_eq!(
            empty.to_json(),
            format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":null}},"config":{{"Env":["PATH={DEFAULT_PATH}"],"WorkingDir":"/"}}}}"#
            )
        );
    }

    #[test]
    fn variables_keep_their_place() {
        let mut image = Image::default();
        image.set_env("A", "1");
        image.set_env("B", "2");
        image.set_env("A", "3");
        assert_eq!(image.config.env, ["A=3", "B=2"]);
    }
}
