//! `Platform`: an operating system, an architecture and a variant, written `linux/arm64/v8`.
//!
//! Normalisation follows containerd's platforms package, as BuildKit does (facts only).
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A platform as OCI descriptors and LLB have it. Empty strings mean "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, `arm`, `386`, …
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Only ever used by Windows images.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Only ever used by Windows images.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

/// A text names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a platform: wanted OS/ARCH[/VARIANT], as in `linux/arm64` or `linux/arm/v7`")]
pub struct PlatformError {
    /// What was refused.
    pub text: String,
}

impl Platform {
    /// `os`/`architecture`/`variant`, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self { os: os.into(), architecture: architecture.into(), variant: variant.into(), ..Self::default() }
            .normalized()
    }

    /// `os[(version[+feature…])]/architecture[/variant]`: what [`FromStr`] reads.
    pub fn with_version(&self) -> String {
        if self.os_version.is_empty() && self.os_features.is_empty() {
            return self.to_string();
        }
        let mut inner = self.os_version.clone();
        for feature in &self.os_features {
            inner.push('+');
            inner.push_str(feature);
        }
        let rest = self.to_string();
        format!("{}({inner}){}", self.os, rest.strip_prefix(&self.os).unwrap_or_default())
    }

    /// The platform this binary runs on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self::new("linux", architecture, "")
    }

    /// The same platform with the field's aliases folded: `x86_64` is `amd64`, `aarch64` is `arm64`, `arm64/v8`
    /// is `arm64`, `arm` is `arm/v7`, `amd64/v1` is `amd64`.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".into(),
            other => other.into(),
        };
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (a, v) => (a, v),
        };
        (self.architecture, self.variant) = (architecture.to_owned(), variant.to_owned());
        self
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError { text: text.chars().take(120).collect() };
        // `os(version+feature+…)/…`, as containers write it.
        if let Some((os, rest)) = text.split_once('(') {
            let (inner, rest) = rest.split_once(')').ok_or_else(refuse)?;
            let mut platform: Self = format!("{os}{rest}").parse().map_err(|_| refuse())?;
            let plain =
                |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b',');
            let mut words = inner.split('+');
            let version = words.next().unwrap_or_default();
            let features: Vec<String> = words.map(str::to_owned).collect();
            if text.starts_with('(') || !(plain(version) || version.is_empty()) || !features.iter().all(|f| plain(f)) {
                return Err(refuse());
            }
            platform.os_version = version.to_owned();
            platform.os_features = features;
            return Ok(platform);
        }
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(plain) {
            return Err(refuse());
        }
        match parts[..] {
            ["local"] => Ok(Self::host()),
            ["linux" | "windows" | "darwin" | "freebsd"] => Ok(Self::new(parts[0], &Self::host().architecture, "")),
            [
                "amd64" | "arm64" | "386" | "arm" | "riscv64" | "s390x" | "ppc64le" | "x86_64" | "aarch64" | "armhf"
                | "armel" | "i386" | "loong64" | "mips64le",
            ] => Ok(Self::new("linux", parts[0], "")),
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_features_are_read_and_written() {
        for text in ["windows(10.0.20348.1006)/amd64", "windows(1.2.3+a+b)/amd64", "linux(+f)/arm/v6"] {
            let platform: Platform = text.parse().expect(text);
            assert_eq!(platform.with_version(), text);
            assert!(!platform.to_string().contains('('));
        }
        assert_eq!("linux/x86_64".parse::<Platform>().expect("known").with_version(), "linux/amd64");
        for text in [
            "windows(1/amd64",
            "(1)/amd64",
            "windows(1,2)/amd64",
            "windows(a/b)/amd64",
            "windows(1+)/amd64",
            "windows(1)",
        ] {
            let read = text.parse::<Platform>();
            assert!(read.is_err() || text == "windows(1)", "{text}: {read:?}");
        }
    }
}
