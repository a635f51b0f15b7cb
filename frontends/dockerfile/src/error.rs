//! What can be wrong with a build file. Kinds are typed so that hosts and tests can tell them apart; the text says what
//! was wanted and what was found. Drawing the snippet is the host's work.

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
    #[error("the file has no instructions; a build file needs at least `FROM <image>`")]
    NoInstructions,
    #[error("line {line} has {length} bytes; a line may have at most 65535")]
    LineTooLong { line: u32, length: usize },
    #[error("the parser directive `{0}` can be used only once")]
    RepeatedDirective(String),
    #[error("the escape directive must be ` or \\, not `{0}`")]
    EscapeDirective(String),
    #[error("no stage yet: `{0}` stands before the first FROM, where only ARG is allowed")]
    NoStage(String),
    #[error("the heredoc `<<{0}` is never closed by a line `{0}`")]
    UnterminatedHeredoc(String),
    #[error("{0} has bytes here that are no UTF-8 and would have to be passed on; save the file as UTF-8")]
    NotUtf8(&'static str),
    #[error("an ONBUILD trigger must hold one instruction, this one holds {0}")]
    TriggerCount(usize),
    // words
    #[error("unknown instruction: {name}{}", hint(.suggestion))]
    UnknownInstruction { name: String, suggestion: Option<String> },
    #[error("a JSON array of arguments may hold strings only")]
    JsonNotStrings,
    #[error("`{word}` has no `=`; write name=value")]
    NoEquals { word: String },
    #[error("{0} needs a name and a value")]
    NameWithoutValue(&'static str),
    #[error("{0} needs a name before `=`")]
    BlankName(&'static str),
    #[error(transparent)]
    Shell(#[from] crate::shell::ShellError),
    // flags
    #[error("unknown flag: --{name}{} (this instruction knows: {})", hint(.suggestion), flag_list(.known))]
    UnknownFlag { name: String, suggestion: Option<String>, known: Vec<&'static str> },
    #[error("--{0} is given twice")]
    DuplicateFlag(String),
    #[error("--{0} needs a value: --{0}=VALUE")]
    FlagWithoutValue(String),
    #[error("--{name} takes true or false, not `{value}`")]
    FlagNotBool { name: String, value: String },
    #[error("--network takes default, none or host, not `{0}`")]
    Network(String),
    #[error("--security takes sandbox or insecure, not `{0}`")]
    Security(String),
    // arity
    #[error("{0} needs at least one argument")]
    AtLeastOne(&'static str),
    #[error("{0} takes exactly one argument")]
    ExactlyOne(&'static str),
    #[error("{0} needs a source and a destination, at least two arguments")]
    NoDestination(&'static str),
    #[error("FROM takes one argument, or three as in `FROM image AS name`")]
    FromArguments,
    #[error("invalid stage name `{0}`: it starts with a letter and has letters, digits, `-`, `_` and `.`")]
    StageName(String),
    #[error("{0} cannot take a heredoc as its destination")]
    HeredocDestination(&'static str),
    #[error("ONBUILD ONBUILD is not allowed")]
    ChainedOnbuild,
    #[error("{0} is not allowed as an ONBUILD trigger")]
    ForbiddenTrigger(String),
    #[error("VOLUME cannot take an empty path")]
    EmptyVolume,
    #[error("SHELL takes a JSON array, such as [\"/bin/bash\", \"-c\"]")]
    ShellNotJson,
    // HEALTHCHECK
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNoneArguments,
    #[error("HEALTHCHECK CMD needs a command")]
    HealthNoCommand,
    #[error("HEALTHCHECK takes NONE or CMD, not `{0}`")]
    HealthType(String),
    #[error("--{flag}: `{value}` is no duration, such as 30s or 1m30s")]
    Duration { flag: &'static str, value: String },
    #[error("--{flag}: `{value}` is less than 1ms")]
    DurationTooShort { flag: &'static str, value: String },
    #[error("--retries takes a number from 0 to 2147483647, not `{0}`")]
    Retries(String),
    // mounts and devices
    #[error("--{flag}={value} is no comma-separated list: {reason}")]
    Csv { flag: &'static str, value: String, reason: &'static str },
    #[error("`from` of a mount does not expand variables; give the image a stage of its own and name that")]
    MountFromVariable,
    #[error("mount option `{0}` needs a value")]
    MountNoValue(String),
    #[error("unknown mount type `{value}`{}", hint(.suggestion))]
    MountType { value: String, suggestion: Option<String> },
    #[error("unknown sharing mode `{value}`{}; there are shared, private and locked", hint(.suggestion))]
    MountSharing { value: String, suggestion: Option<String> },
    #[error("unknown mount option `{key}`{}", hint(.suggestion))]
    MountKey { key: String, suggestion: Option<String> },
    #[error("mount option `{key}` does not go with type={mount}")]
    MountKeyForType { key: &'static str, mount: &'static str },
    #[error("mount option {key}: invalid value `{value}`")]
    MountValue { key: String, value: String },
    #[error("a secret mount needs id, source or target")]
    SecretUnnamed,
    #[error("a secret mount takes source or id, not both")]
    SecretSourceAndId,
    #[error("unknown device option `{key}`{}", hint(.suggestion))]
    DeviceKey { key: String, suggestion: Option<String> },
    #[error("the device is already named `{0}`")]
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
