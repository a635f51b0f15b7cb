//! What can be wrong with a build file. Kinds are typed so that hosts and tests can tell them apart; the text says what
//! was wanted and what was found, and has the words that BuildKit's users know and its clients look for. Drawing the
//! snippet is the host's work.

use crate::span::Span;

/// A refused build file: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    pub kind: ErrorKind,
    /// The offending part, or the whole instruction where no smaller part is to blame.
    pub span: Span,
}

impl ParseError {
    pub(crate) fn new(kind: ErrorKind, span: Span) -> Self {
        ParseError { kind, span }
    }

    /// The text as BuildKit's clients know it: what is wrong inside one instruction begins with its line.
    pub fn message(&self) -> String {
        use ErrorKind::*;
        match &self.kind {
            NoInstructions
            | LineTooLong { .. }
            | RepeatedDirective(_)
            | EscapeDirective(_)
            | NoStage(_)
            | UnterminatedHeredoc(_)
            | NotUtf8(_)
            | JsonNotStrings
            | NoEquals { .. }
            | NameWithoutValue(_) => self.kind.to_string(),
            kind => format!("dockerfile parse error on line {}: {kind}", self.span.first_line),
        }
    }

    /// What the writer probably meant: an instruction, flag, mount type or key.
    pub fn suggestion(&self) -> Option<&str> {
        match &self.kind {
            ErrorKind::UnknownInstruction { suggestion, .. }
            | ErrorKind::UnknownFlag { suggestion, .. }
            | ErrorKind::MountType { suggestion, .. }
            | ErrorKind::MountSharing { suggestion, .. }
            | ErrorKind::MountKey { suggestion, .. }
            | ErrorKind::DeviceKey { suggestion, .. } => suggestion.as_deref(),
            _ => None,
        }
    }
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|s| format!(" (did you mean {s}?)")).unwrap_or_default()
}

/// The kinds of [`ParseError`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ErrorKind {
    // the file
    #[error("file with no instructions: a build file needs at least `FROM <image>`")]
    NoInstructions,
    #[error("dockerfile line greater than max allowed size of 65535: line {line} has {length} bytes")]
    LineTooLong { line: u32, length: usize },
    #[error("only one {0} parser directive can be used")]
    RepeatedDirective(String),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeDirective(String),
    #[error("no build stage in current context: `{0}` stands before the first FROM, where only ARG is allowed")]
    NoStage(String),
    #[error("unterminated heredoc: `<<{0}` is never closed by a line `{0}`")]
    UnterminatedHeredoc(String),
    #[error("{0} has bytes here that are no UTF-8 and would have to be passed on; save the file as UTF-8")]
    NotUtf8(&'static str),
    #[error("onbuild trigger should be a single expression, this one holds {0}")]
    TriggerCount(usize),
    // words
    #[error("unknown instruction: {name}{}", hint(.suggestion))]
    UnknownInstruction { name: String, suggestion: Option<String> },
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    #[error("Syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    NoEquals { word: String },
    #[error("{0} must have two arguments")]
    NameWithoutValue(&'static str),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error(transparent)]
    Shell(#[from] crate::shell::ShellError),
    // flags
    #[error("unknown flag: --{name}{} (this instruction knows: {})", hint(.suggestion), flag_list(.known))]
    UnknownFlag { name: String, suggestion: Option<String>, known: Vec<&'static str> },
    #[error("duplicate flag specified: {0}")]
    DuplicateFlag(String),
    #[error("missing a value on flag: --{0} (write --{0}=VALUE)")]
    FlagWithoutValue(String),
    #[error("expecting boolean value for flag {name}, not: {value}")]
    FlagNotBool { name: String, value: String },
    #[error("invalid network mode {0:?}: --network takes default, none or host")]
    Network(String),
    #[error("security {0:?} is not valid: --security takes sandbox or insecure")]
    Security(String),
    // arity
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    #[error("{0} requires at least two arguments, but only one was provided. Destination could not be determined")]
    NoDestination(&'static str),
    #[error("FROM requires either one or three arguments, as in `FROM image AS name`")]
    FromArguments,
    #[error("invalid name for build stage: {0:?}, name can't start with a number or contain symbols")]
    StageName(String),
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnbuild,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    ForbiddenTrigger(String),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("SHELL requires the arguments to be in JSON form, such as [\"/bin/bash\", \"-c\"]")]
    ShellNotJson,
    // HEALTHCHECK
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNoneArguments,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthNoCommand,
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthType(String),
    #[error("--{flag}: `{value}` is no duration, such as 30s or 1m30s")]
    Duration { flag: &'static str, value: String },
    #[error("Interval {flag:?} cannot be less than 1ms, this one is {value}")]
    DurationTooShort { flag: &'static str, value: String },
    #[error("--retries takes a number from 0 to 2147483647, not `{0}`")]
    Retries(String),
    // mounts and devices
    #[error("--{flag}={value} is no comma-separated list: {reason}")]
    Csv { flag: &'static str, value: String, reason: &'static str },
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    MountFromVariable,
    #[error("invalid field '{0}' must be a key=value pair")]
    MountNoValue(String),
    #[error("unsupported mount type {value:?}{}", hint(.suggestion))]
    MountType { value: String, suggestion: Option<String> },
    #[error("unsupported sharing value {value:?}{}; there are shared, private and locked", hint(.suggestion))]
    MountSharing { value: String, suggestion: Option<String> },
    #[error("unexpected key '{key}'{}", hint(.suggestion))]
    MountKey { key: String, suggestion: Option<String> },
    #[error("unexpected key '{key}' for mount type '{mount}'")]
    MountKeyForType { key: &'static str, mount: &'static str },
    #[error("invalid value for {key}: {value}")]
    MountValue { key: String, value: String },
    #[error("invalid secret mount. one of source, target required")]
    SecretUnnamed,
    #[error("both source and id can't be set")]
    SecretSourceAndId,
    #[error("unexpected key '{key}'{}", hint(.suggestion))]
    DeviceKey { key: String, suggestion: Option<String> },
    #[error("device name already set to {0}")]
    DeviceNamedTwice(String),
    #[error("device option required takes a boolean, not `{0}`")]
    DeviceRequired(String),
}

fn flag_list(known: &[&str]) -> String {
    if known.is_empty() {
        return "no flags".into();
    }
    known.iter().map(|k| format!("--{k}")).collect::<Vec<_>>().join(", ")
}
