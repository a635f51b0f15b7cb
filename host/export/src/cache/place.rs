//! `CachePlace`: where an export of cache mounts goes to or comes from, in the grammar of the build's `-o`.
use std::path::{Path, PathBuf};

use crate::destination::Destination;
use crate::output_csv::{fields, record, suggestion};

/// Where an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// `type=dir,dest=DIR`: an OCI layout that holds this export and nothing else.
    Dir(PathBuf),
    /// `type=oci,dest=DIR[,name=TAG]`: one image among others in an OCI layout.
    Layout(PathBuf, Option<String>),
    /// `type=tar,dest=FILE`: an OCI layout in a tar.
    Tar(Destination),
    /// `type=registry,ref=REF`.
    Registry {
        /// As it was written.
        reference: String,
        /// Plain http and unknown certificates will do.
        insecure: bool,
    },
}

/// Why a place was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Not a CSV record of key=value.
    #[error("`{text}`: {reason}")]
    Syntax { text: String, reason: String },
    /// No `type=`.
    #[error("`{text}` has no type; add one of type={}", KINDS.join(", "))]
    NoType { text: String },
    /// A type that there is not.
    #[error("type `{kind}` is unknown{}; known are {}", meant(.suggestion), KINDS.join(", "))]
    UnknownType { kind: String, suggestion: Option<&'static str> },
    /// A key that the type does not have.
    #[error("type `{kind}` has no option `{key}`{}; it has {}", meant(.suggestion), known.join(", "))]
    UnknownKey { kind: String, key: String, suggestion: Option<&'static str>, known: Vec<&'static str> },
    /// A key twice.
    #[error("option `{key}` is given twice")]
    Twice { key: String },
    /// A key that must be there.
    #[error("type `{kind}` needs {wanted}")]
    Missing { kind: String, wanted: &'static str },
    /// A value that the key cannot have.
    #[error("option `{key}={value}`: wanted {wanted}")]
    Value { key: String, value: String, wanted: &'static str },
}

const KINDS: [&str; 4] = ["dir", "oci", "tar", "registry"];

fn meant(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default()
}

impl CachePlace {
    /// Reads a place. A bare text is `-` (a tar on the standard stream), a directory or a `.tar` file by its path, or else the name of an image where it begins with a registry's host
    /// (`registry.example/…`, `localhost:5000/…`). A directory of that name goes before the registry.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let syntax = |reason: String| PlaceError::Syntax { text: text.to_owned(), reason };
        if let [alone] = &record(text).map_err(syntax)?[..]
            && !alone.contains('=')
        {
            return match alone.as_str() {
                "" => Err(syntax("nothing is named".to_owned())),
                "-" => Ok(Self::Tar(Destination::Stdout)),
                alone => Ok(Self::bare(alone)),
            };
        }
        let mut options: Vec<(String, String)> = Vec::new();
        for (key, value) in fields(text).map_err(syntax)? {
            if options.iter().any(|(known, _)| *known == key) {
                return Err(PlaceError::Twice { key });
            }
            options.push((key, value));
        }
        let mut take = |wanted: &str| {
            let at = options.iter().position(|(key, _)| key == wanted)?;
            Some(options.remove(at).1)
        };
        let kind = take("type").ok_or_else(|| PlaceError::NoType { text: text.to_owned() })?;
        let path = |value: Option<String>, wanted| match value.as_deref() {
            None | Some("") => Err(PlaceError::Missing { kind: kind.clone(), wanted }),
            Some(path) => Ok(PathBuf::from(path)),
        };
        let (place, known): (_, &[&'static str]) = match kind.as_str() {
            "dir" => (Self::Dir(path(take("dest"), "dest=DIRECTORY")?), &["dest"]),
            "oci" => (Self::Layout(path(take("dest"), "dest=DIRECTORY")?, take("name")), &["dest", "name"]),
            "tar" => match take("dest").as_deref() {
                None | Some("-") => (Self::Tar(Destination::Stdout), &["dest"]),
                Some("") => {
                    let wanted = "dest=FILE, or dest=- for the standard stream";
                    return Err(PlaceError::Missing { kind, wanted });
                }
                Some(file) => (Self::Tar(Destination::File(file.into())), &["dest"]),
            },
            "registry" => {
                let reference = take("ref").filter(|text| !text.is_empty());
                let wanted = "ref=HOST/REPOSITORY:TAG";
                let reference = reference.ok_or_else(|| PlaceError::Missing { kind: kind.clone(), wanted })?;
                let insecure = match take("registry.insecure").as_deref() {
                    None | Some("false" | "0") => false,
                    Some("true" | "1" | "") => true,
                    Some(other) => {
                        let (key, value) = ("registry.insecure".to_owned(), other.to_owned());
                        return Err(PlaceError::Value { key, value, wanted: "true or false" });
                    }
                };
                (Self::Registry { reference, insecure }, &["ref", "registry.insecure"])
            }
            _ => return Err(PlaceError::UnknownType { suggestion: suggestion(&kind, &KINDS), kind }),
        };
        match options.into_iter().next() {
            None => Ok(place),
            Some((key, _)) => {
                let suggestion = suggestion(&key, known);
                Err(PlaceError::UnknownKey { kind, key, suggestion, known: known.to_vec() })
            }
        }
    }

    /// Whether it is a standard stream.
    pub fn is_stream(&self) -> bool {
        *self == Self::Tar(Destination::Stdout)
    }

    fn bare(text: &str) -> Self {
        let path = Path::new(text);
        let host = text.split_once('/').map(|(host, _)| host);
        let is_host = |host: &str| !host.starts_with('.') && (host.contains(['.', ':']) || host == "localhost");
        if host.is_some_and(is_host) && !path.exists() {
            return Self::Registry { reference: text.to_owned(), insecure: false };
        }
        if path.is_file() || (!path.is_dir() && text.ends_with(".tar")) {
            return Self::Tar(Destination::File(path.to_owned()));
        }
        Self::Dir(path.to_owned())
    }
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dir(path) | Self::Layout(path, None) | Self::Tar(Destination::File(path)) => {
                write!(f, "{}", path.display())
            }
            Self::Layout(path, Some(name)) => write!(f, "{}:{name}", path.display()),
            Self::Tar(Destination::Stdout) => f.write_str("-"),
            Self::Registry { reference, .. } => f.write_str(reference),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_outputs_are() {
        let registry = |reference: &str, insecure| CachePlace::Registry { reference: reference.into(), insecure };
        for (text, wanted) in [
            ("out", CachePlace::Dir("out".into())),
            ("./a.b/c", CachePlace::Dir("./a.b/c".into())),
            ("/tmp/x.tar", CachePlace::Tar(Destination::File("/tmp/x.tar".into()))),
            ("-", CachePlace::Tar(Destination::Stdout)),
            ("type=tar", CachePlace::Tar(Destination::Stdout)),
            ("type=tar,dest=x", CachePlace::Tar(Destination::File("x".into()))),
            ("type=dir,dest=registry.example/x", CachePlace::Dir("registry.example/x".into())),
            ("type=oci,dest=x,name=main", CachePlace::Layout("x".into(), Some("main".into()))),
            ("registry.example/team/cache:main", registry("registry.example/team/cache:main", false)),
            ("localhost:5000/c", registry("localhost:5000/c", false)),
            ("\"type=registry\",ref=team/c:1,registry.insecure=true", registry("team/c:1", true)),
        ] {
            assert_eq!(CachePlace::parse(text).expect(text), wanted, "{text}");
        }
        for (text, why) in [
            ("", "nothing is named"),
            ("dest=x", "type=dir, oci, tar, registry"),
            ("type=local,dest=x", "unknown"),
            ("type=regisrty,ref=x", "did you mean `registry`?"),
            ("type=dir", "needs dest="),
            ("type=oci,dest=", "needs dest="),
            ("type=registry", "needs ref="),
            ("type=registry,reff=x", "needs ref="),
            ("type=dir,dest=x,nam=y", "has no option `nam`; it has dest"),
            ("type=oci,dest=x,nam=y", "did you mean `name`?"),
            ("type=dir,dest=x,dest=y", "twice"),
            ("type=registry,ref=x,registry.insecure=maybe", "true or false"),
            ("type=dir,\"dest=x", "closing"),
        ] {
            let error = CachePlace::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
