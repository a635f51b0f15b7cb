//! Typed instructions of the whole language (compatibility spec B.1). Strings are as written, before variable
//! expansion: expansion needs the environment of its stage and happens at conversion with [`crate::shell::Lexer`].
//! What the rest of the frontend cannot build yet is parsed all the same, so that it can be refused by name and place.

pub(crate) mod build;
mod duration;
mod flags;
mod mount;
pub(crate) mod suggest;

pub use mount::{Device, Expand, Mount, MountSpec, MountType, Sharing};

use crate::span::{Span, Spanned};

/// A parsed build file.
#[derive(Clone, Debug, PartialEq)]
pub struct Dockerfile {
    /// `\`, or a backtick after `# escape=`.
    pub escape: char,
    /// The parser directives in order of appearance.
    pub directives: Vec<Directive>,
    /// ARG instructions before the first FROM.
    pub global_args: Vec<Instruction>,
    /// At least one, unless the file has only ARGs (which conversion refuses).
    pub stages: Vec<Stage>,
    pub warnings: Vec<Warning>,
}

/// `# syntax=…`, `# escape=…` or `# check=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Lower case.
    pub name: String,
    pub value: String,
    pub span: Span,
}

/// A remark that does not stop the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// An empty line inside a continued instruction (rule NoEmptyContinuation). The span covers the instruction.
    EmptyContinuation { line: String, span: Span },
}

/// FROM and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The word after AS, lower-cased.
    pub name: Option<String>,
    /// The image or stage it starts from, unexpanded.
    pub base: String,
    pub base_span: Span,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// The FROM line, joined and trimmed.
    pub code: String,
    /// `FROM` as it was written.
    pub keyword: String,
    pub span: Span,
    pub comments: Vec<String>,
    /// The comment line above that starts with the name, without the name.
    pub doc: Option<String>,
    pub instructions: Vec<Instruction>,
}

/// One instruction with what all have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    pub kind: Kind,
    /// The instruction's line, continuations joined, comments dropped, trimmed: what BuildKit calls its code. Progress
    /// and history are made of it. Heredoc bodies are not part of it.
    pub code: String,
    /// The keyword as it was written (`run`, `RUN`).
    pub keyword: String,
    /// From the keyword to the end of the last line, heredocs included. Its lines are those of BuildKit's source maps.
    pub span: Span,
    pub keyword_span: Span,
    /// The flags as they were written, in order.
    pub flags: Vec<Spanned<Flag>>,
    /// Places of the arguments in the order in which they were written (flags not counted).
    pub argument_spans: Vec<Span>,
    /// Comment lines directly above.
    pub comments: Vec<String>,
}

impl Instruction {
    /// Where flag `name` stands, if it was given; for refusing a flag by place.
    pub fn flag_span(&self, name: &str) -> Option<Span> {
        self.flags.iter().find(|f| f.value.name == name).map(|f| f.span)
    }
}

/// `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    pub name: String,
    pub value: Option<String>,
}

/// What an instruction does. FROM is no instruction but begins a [`Stage`].
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Add(Add),
    Arg(Vec<Arg>),
    Cmd(CommandLine),
    Copy(Copy),
    /// An empty JSON array and no argument at all are the same here: `args` is empty.
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    /// Sorted bytewise, as BuildKit does before expanding.
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(String),
    /// The trigger's text (heredocs appended); [`crate::parse_trigger`] reads it when a child stage runs it.
    Onbuild(String),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

impl Kind {
    /// The keyword in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Add(_) => "ADD",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Copy(_) => "COPY",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}

/// `name=value` of ENV and LABEL, quotes and escapes still in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
    /// Written the old way, `ENV name the rest of the line`.
    pub legacy: bool,
}

/// One `NAME[=default]` of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    pub key: String,
    /// `None` without `=`; an empty default is `Some("")`.
    pub value: Option<String>,
    /// The comment line above that starts with the key, without the key.
    pub doc: Option<String>,
}

/// How a command was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text for a shell: the stage's SHELL is put before it.
    Shell,
    /// A JSON array: the program and its arguments.
    Exec,
}

/// The command of RUN, CMD or ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Shell form: one string, or none when nothing was written. Exec form: the array, which may be empty.
    pub args: Vec<String>,
    pub form: Form,
    /// Heredocs of RUN in order; always empty for CMD and ENTRYPOINT.
    pub files: Vec<Heredoc>,
}

/// A here-document with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, unquoted; COPY and ADD use it as the file's name.
    pub name: String,
    /// Digits before `<<`; 0 when there are none.
    pub descriptor: u64,
    /// No part of the word was quoted: variables in the body are expanded.
    pub expand: bool,
    /// `<<-`: leading tabs are to be removed. [`Heredoc::content`] still has them; see [`Heredoc::chomped`].
    pub chomp: bool,
    /// The lines up to the delimiter, with their line endings.
    pub content: String,
}

impl Heredoc {
    /// The body with the leading tabs of every line removed if `<<-` asked for it.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|l| l.trim_start_matches('\t')).collect()
    }
}

/// What COPY and ADD take and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Paths (or URLs for ADD), unexpanded.
    pub paths: Vec<String>,
    /// Files written inline as heredocs.
    pub inline: Vec<InlineFile>,
    pub dest: String,
}

/// A file of COPY or ADD given as a heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    pub name: String,
    /// Tabs already chomped where `<<-` asked for it; variables not yet expanded.
    pub content: String,
    pub expand: bool,
}

/// COPY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    pub sources: Sources,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<String>,
}

/// ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Add {
    pub sources: Sources,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    pub keep_git_dir: Option<bool>,
    pub checksum: Option<String>,
    pub unpack: Option<bool>,
    pub exclude: Vec<String>,
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub command: CommandLine,
    /// `--mount`, in order; [`MountSpec::resolve`] expands and checks one.
    pub mounts: Vec<MountSpec>,
    pub network: Network,
    pub security: Security,
    pub devices: Vec<Device>,
}

/// `--network` of RUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
}

/// `--security` of RUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

/// HEALTHCHECK. Durations are nanoseconds, 0 where not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `NONE`; `CMD` and arguments; or `CMD-SHELL` and one string.
    pub test: Vec<String>,
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: i32,
}
