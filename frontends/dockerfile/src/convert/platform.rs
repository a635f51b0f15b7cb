//! Platform names: parsing, the normal form, and printing, by the rules that containers share (`os[(version)]/arch[/variant]`).

use crate::convert::graph::Platform;

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
];
const KNOWN_ARCH: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: invalid argument")]
pub struct PlatformError {
    reason: String,
}

fn architecture(arch: &str, variant: &str) -> (String, String) {
    let (arch, variant) = (arch.to_lowercase(), variant.to_lowercase());
    let (a, v): (&str, String) = match arch.as_str() {
        "i386" => ("386", String::new()),
        "x86_64" | "x86-64" | "amd64" => ("amd64", if variant == "v1" { String::new() } else { variant }),
        "aarch64" | "arm64" => (
            "arm64",
            match variant.as_str() {
                "8" | "v8" | "v8.0" => String::new(),
                "9" | "9.0" | "v9.0" => "v9".into(),
                _ => variant,
            },
        ),
        "armhf" => ("arm", "v7".into()),
        "armel" => ("arm", "v6".into()),
        "arm" => (
            "arm",
            match variant.as_str() {
                "" | "7" => "v7".into(),
                "5" | "6" | "8" => format!("v{variant}"),
                _ => variant,
            },
        ),
        other => (other, variant),
    };
    (a.to_owned(), v)
}

fn operating_system(os: &str) -> String {
    match os.to_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.to_owned(),
    }
}

impl Platform {
    /// Reads `linux`, `amd64`, `linux/arm/v7`, `windows(10.0.20348)/amd64`. What the text leaves open is taken from `host`.
    ///
    /// # Errors
    /// When the text names no platform.
    pub fn parse(text: &str, host: &Self) -> Result<Self, PlatformError> {
        let fail = |reason: &str| PlatformError { reason: format!("{text:?}: {reason}") };
        let bad_part = |part: &str| PlatformError {
            reason: format!(
                "{part:?} is an invalid component of {text:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\""
            ),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        let (os, rest) = parts[0].split_once('(').map_or((parts[0], None), |(a, b)| (a, Some(b)));
        if let Some(part) = std::iter::once(os).chain(parts[1..].iter().copied()).find(|part| !word(part)) {
            return Err(bad_part(part));
        }
        let mut platform = Self { os: operating_system(os), ..Self::default() };
        if let Some(rest) = rest {
            let inner = rest.strip_suffix(')').ok_or_else(|| fail("the parenthesis is not closed"))?;
            let mut options = inner.split('+');
            platform.os_version = options.next().unwrap_or_default().to_owned();
            platform.os_features = options.map(str::to_owned).collect();
        }
        match parts.as_slice() {
            [_] if KNOWN_OS.contains(&platform.os.as_str()) => platform.architecture.clone_from(&host.architecture),
            [only] => {
                (platform.architecture, platform.variant) = architecture(only, "");
                platform.drop_default_arm();
                if !KNOWN_ARCH.contains(&platform.architecture.as_str()) {
                    return Err(fail(
                        "unknown operating system or architecture (wanted os/architecture[/variant], as in linux/arm64)",
                    ));
                }
                platform.os.clone_from(&host.os);
            }
            [_, arch] => {
                (platform.architecture, platform.variant) = architecture(arch, "");
                platform.drop_default_arm();
            }
            [_, arch, variant] => {
                (platform.architecture, platform.variant) = architecture(arch, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    platform.variant = "v8".into();
                }
            }
            _ => return Err(fail("too many parts")),
        }
        Ok(platform)
    }

    fn drop_default_arm(&mut self) {
        if self.architecture == "arm" && self.variant == "v7" {
            self.variant.clear();
        }
    }

    /// The one spelling of this platform.
    #[must_use]
    pub fn normalize(&self) -> Self {
        let mut out = self.clone();
        out.os = operating_system(&self.os);
        (out.architecture, out.variant) = architecture(&self.architecture, &self.variant);
        out.os_features.sort();
        out.os_features.dedup();
        out
    }

    /// `os/arch[/variant]`.
    pub fn format(&self) -> String {
        if self.os.is_empty() {
            return "unknown".into();
        }
        [&self.os, &self.architecture, &self.variant]
            .into_iter()
            .filter(|s| !s.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("/")
    }

    /// `os[(version[+feature…])]/arch[/variant]`.
    pub fn format_all(&self) -> String {
        if self.os.is_empty() || (self.os_version.is_empty() && self.os_features.is_empty()) {
            return self.format();
        }
        let mut os = format!("{}({}", self.os, self.os_version);
        for feature in &self.os_features {
            os.push('+');
            os.push_str(feature);
        }
        os.push(')');
        [&os, &self.architecture, &self.variant]
            .into_iter()
            .filter(|s| !s.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Platform {
        Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() }
    }

    #[test]
    fn names() {
        for (text, all) in [
            ("linux", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm"),
            ("Linux/X86_64", "linux/amd64"),
            ("windows(10.0.1)/amd64", "windows(10.0.1)/amd64"),
        ] {
            assert_eq!(Platform::parse(text, &host()).unwrap().format_all(), all, "{text}");
        }
        assert_eq!(Platform::parse("linux/arm64/v8", &host()).unwrap().normalize().format(), "linux/arm64");
        for text in ["", "nonsense", "linux/", "a/b/c/d", "linux/*"] {
            assert!(Platform::parse(text, &host()).is_err(), "{text}");
        }
    }
}
