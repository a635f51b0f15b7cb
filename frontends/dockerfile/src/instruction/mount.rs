//! `RUN --mount=…` and `--device=…`. A mount's options may hold variables, so a mount is read twice: once for its form
//! when the file is parsed ([`MountSpec`]), once for its meaning when the instruction is converted ([`MountSpec::resolve`]).

use super::suggest;
use crate::error::ErrorKind;
use crate::text;

/// A `--mount` whose comma-separated form is right; its options are not expanded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The flag's value as written.
    pub text: String,
    pub(super) fields: Vec<String>,
}

/// Kinds of mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// How builds share a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

/// A mount with its options expanded and checked against each other. Paths are as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountType,
    pub from: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    /// Bytes; tmpfs only. 0 is no limit.
    pub size: i64,
    pub id: String,
    pub sharing: Option<Sharing>,
    pub required: bool,
    /// The variable that holds a secret; `Some("")` takes the default name.
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// `--device=name[,required]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub required: bool,
}

/// Expands the variables in one option's value.
pub type Expand<'a> = dyn FnMut(&str) -> Result<String, ErrorKind> + 'a;

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountType {
    /// As written in `type=`.
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, t)| *t == self).map_or("", |(name, _)| name)
    }
}

impl MountSpec {
    /// Checks what can be checked before variables have values: the list's form, and that `from` has no variable.
    pub(super) fn read(text: &str) -> Result<MountSpec, ErrorKind> {
        let fields = csv("mount", text)?;
        for field in &fields {
            if let Some((key, value)) = field.split_once('=')
                && text::lower(key) == "from"
                && value.find('$').is_some_and(|at| at + 1 != value.len())
            {
                return Err(ErrorKind::MountFromVariable);
            }
        }
        Ok(MountSpec { text: text.into(), fields })
    }

    /// The mount's meaning. `expand` is called once for each `key=value`, in order.
    ///
    /// # Errors
    /// Unknown options, options that do not go with the type, invalid values, and what `expand` returns.
    pub fn resolve(&self, expand: &mut Expand<'_>) -> Result<Mount, ErrorKind> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in &self.fields {
            match field.split_once('=') {
                Some((key, value)) => mount.option(&text::lower(key), expand(value)?, &mut read_only)?,
                None => mount.word(field, &mut read_only)?,
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
        mount.check()?;
        Ok(mount)
    }
}

impl Mount {
    fn word(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), ErrorKind> {
        match text::lower(field).as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.only("required", &[MountType::Secret, MountType::Ssh])?;
                self.required = true;
            }
            _ => return Err(ErrorKind::MountNoValue(field.into())),
        }
        Ok(())
    }

    /// The option goes only with these types, as far as `type=` has been read.
    fn only(&self, key: &'static str, types: &[MountType]) -> Result<(), ErrorKind> {
        if types.contains(&self.kind) {
            return Ok(());
        }
        Err(ErrorKind::MountKeyForType { key, mount: self.kind.name() })
    }

    fn option(&mut self, key: &str, value: String, read_only: &mut Option<bool>) -> Result<(), ErrorKind> {
        let invalid = |value: &str| ErrorKind::MountValue { key: key.into(), value: value.into() };
        let boolean = |value: &str| parse_bool(value).ok_or_else(|| invalid(value));
        let number = |value: &str, radix| unsigned(value, radix).map(Some).ok_or_else(|| invalid(value));
        match key {
            "type" => {
                let lower = text::lower(&value);
                self.kind = TYPES.iter().find(|(n, _)| *n == lower).map(|(_, t)| *t).ok_or_else(|| {
                    let suggestion = suggest::exact(&value, &TYPES.map(|(n, _)| n));
                    ErrorKind::MountType { value: value.clone(), suggestion }
                })?;
            }
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *read_only = Some(boolean(&value)?),
            "readwrite" | "rw" => *read_only = Some(!boolean(&value)?),
            "required" => {
                self.only("required", &[MountType::Secret, MountType::Ssh])?;
                self.required = boolean(&value)?;
            }
            "size" => {
                self.only("size", &[MountType::Tmpfs])?;
                self.size = ram_bytes(&value).ok_or_else(|| invalid(&value))?;
            }
            "id" => self.id = value,
            "sharing" => {
                let lower = text::lower(&value);
                let found = SHARINGS.iter().find(|(n, _)| *n == lower).map(|(_, s)| *s);
                self.sharing = Some(found.ok_or_else(|| {
                    let suggestion = suggest::exact(&value, &SHARINGS.map(|(n, _)| n));
                    ErrorKind::MountSharing { value: value.clone(), suggestion }
                })?);
            }
            "mode" => self.mode = number(&value, 8)?,
            "uid" => self.uid = number(&value, 10)?,
            "gid" => self.gid = number(&value, 10)?,
            "env" => self.env = Some(value),
            _ => return Err(ErrorKind::MountKey { key: key.into(), suggestion: suggest::exact(key, &KEYS) }),
        }
        Ok(())
    }

    /// Options against each other, when all are known.
    fn check(&self) -> Result<(), ErrorKind> {
        let owned = [MountType::Secret, MountType::Ssh, MountType::Cache];
        for (key, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if given.is_some() {
                self.only(key, &owned)?;
            }
        }
        if self.kind == MountType::Secret {
            if !self.from.is_empty() {
                return Err(ErrorKind::MountKeyForType { key: "from", mount: "secret" });
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err(ErrorKind::SecretUnnamed);
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err(ErrorKind::SecretSourceAndId);
            }
        }
        if self.sharing.is_some() {
            self.only("sharing", &[MountType::Cache])?;
        }
        Ok(())
    }
}

impl Device {
    pub(super) fn read(text: &str) -> Result<Device, ErrorKind> {
        let mut device = Device::default();
        for field in csv("device", text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (text::lower(key), Some(value)),
                None => (text::lower(&field), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => {
                    device.required = parse_bool(value).ok_or_else(|| ErrorKind::DeviceRequired(value.into()))?;
                }
                ("name", Some(value)) if device.name.is_empty() => device.name = value.into(),
                ("name", Some(_)) => return Err(ErrorKind::DeviceNamedTwice(device.name)),
                _ if device.name.is_empty() => device.name = field,
                _ => {
                    let suggestion = suggest::exact(&key, &["name", "required"]);
                    return Err(ErrorKind::DeviceKey { key, suggestion });
                }
            }
        }
        Ok(device)
    }
}

/// Splits one line of comma-separated values. A field in double quotes may hold commas and doubled quotes.
fn csv(flag: &'static str, line: &str) -> Result<Vec<String>, ErrorKind> {
    let fail = |reason| Err(ErrorKind::Csv { flag, value: line.into(), reason });
    let mut rest = match line.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => line,
    };
    if rest.is_empty() {
        return fail("it is empty");
    }
    let mut fields = Vec::new();
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, more) = rest.split_once(',').map_or((rest, None), |(f, m)| (f, Some(m)));
            if field.contains('"') {
                return fail("a quote inside an unquoted field");
            }
            fields.push(field.to_owned());
            match more {
                Some(more) => rest = more,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let Some((part, after)) = quoted.split_once('"') else { return fail("a quote is not closed") };
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    quoted = after;
                }
                None => {
                    quoted = after;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(more) => rest = more,
            None if quoted.is_empty() => return Ok(fields),
            None => return fail("text behind a closing quote"),
        }
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Digits only: Rust would also take a plus sign.
fn unsigned(value: &str, radix: u32) -> Option<u32> {
    if value.starts_with('+') { None } else { u32::from_str_radix(value, radix).ok() }
}

/// Sizes such as `64m`, `1.5 GiB` or `100`, in binary units.
fn ram_bytes(value: &str) -> Option<i64> {
    let last = value.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = value.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    // Go lets underscores stand between digits; Rust reads names of infinity, whose size would mean nothing.
    let digit = |at: Option<usize>| at.and_then(|at| number.as_bytes().get(at)).is_some_and(u8::is_ascii_digit);
    let separates = |(at, _): (usize, &str)| digit(at.checked_sub(1)) && digit(Some(at + 1));
    let known = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E' | '_');
    if !number.chars().all(known) || !number.match_indices('_').all(separates) {
        return None;
    }
    let number: f64 = number.replace('_', "").parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    let unit = unit.to_ascii_lowercase();
    let (scale, tail) = match unit.as_bytes().first() {
        None => return Some(number as i64),
        Some(b'b') => (1.0, if unit.len() == 1 { "" } else { "?" }),
        Some(letter) => {
            let power = b"kmgtp".iter().position(|l| l == letter)? as i32 + 1;
            (1024f64.powi(power), unit.get(1..)?)
        }
    };
    matches!(tail, "" | "b" | "ib").then_some((number * scale) as i64)
}

#[cfg(test)]
mod tests;
