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
