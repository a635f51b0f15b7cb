//! Why a step ran: causes as data, and their words.
use serde::Serialize;

use super::align::Place;
use super::files::{Change, How};
use super::parts::PartKind;

/// A text longer than this is not said in one line.
const SHORT: usize = 60;
/// Causes that one line names.
const NAMED: usize = 3;

/// One reason for which the cache had no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Why {
    /// A file that is read is not what it was.
    File {
        /// Which, and how.
        #[serde(flatten)]
        change: Change,
        /// The step whose file it is; none is the build context.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// What is read is not what it was; which file is not remembered.
    Content {
        /// The step that it is read from; none is the build context.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// What is done is not what it was.
    Part {
        /// Which part of it.
        part: PartKind,
        /// Which of its kind, as in the name of a variable.
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        /// A variable that `--build-arg` sets.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        argument: bool,
        /// Whether it was there and is there.
        #[serde(flatten)]
        values: Values,
    },
    /// What comes from outside is not what it was.
    Origin {
        /// Before.
        from: String,
        /// Now.
        to: String,
        /// What the name stood for before: a commit, the digest of a file.
        #[serde(skip_serializing_if = "Option::is_none")]
        was: Option<String>,
        /// What it stands for now.
        #[serde(skip_serializing_if = "Option::is_none")]
        is: Option<String>,
    },
    /// A step before it is new.
    NewStep,
    /// A step before it is gone.
    RemovedStep {
        /// Which.
        removed: String,
    },
    /// It stands on another step.
    OtherStep {
        /// On which it stood.
        before: String,
    },
    /// The cache was not to be used.
    NoCache,
    /// Nothing differs; the earlier result is not there any more.
    Lost {
        /// Where it went; empty where nobody knows.
        how: String,
    },
    /// Nothing differs; the step failed the last time.
    Failed,
    /// Nothing differs; the last build ended before the step did.
    Unfinished,
    /// Its key means nothing to another build.
    Unkeyed,
    /// Nothing that is known differs, but the key does.
    Key,
    /// The step below ran again, and its result has another key.
    Anew,
}

/// The values of a part, as far as they may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Values {
    /// It is new.
    Added {
        /// Now.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// It is gone.
    Removed {
        /// Before.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// It is another.
    Changed {
        /// Before.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// Now.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
}

/// A reason, and the step where it is to be found if that is another than the one that it is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The reason.
    #[serde(flatten)]
    pub why: Why,
    /// The step, by its progress name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

impl Cause {
    /// A reason in the step itself.
    pub fn own(why: Why) -> Self {
        Self { why, step: None }
    }

    /// The same, told of a step that stands on the one named `step`.
    pub fn seen_from_above(&self, step: &str) -> Self {
        Self { why: self.why.clone(), step: Some(self.step.clone().unwrap_or_else(|| step.to_owned())) }
    }

    /// In words, without the step.
    pub fn text(&self) -> String {
        let here = self.step.as_deref().map_or("it".to_owned(), label);
        match &self.why {
            Why::File { change, of } => file(change, of.as_deref()),
            Why::Content { of: None } => "the build context changed".into(),
            Why::Content { of: Some(step) } => format!("what is read of {} changed", label(step)),
            Why::Part { part, name, argument, values } => changed(&noun(*part, name, *argument), values),
            Why::Origin { from, to, was, is } => origin((from, was.as_deref()), (to, is.as_deref())),
            Why::NewStep => format!("{here} is new"),
            Why::RemovedStep { removed } => format!("`{}` before it is gone", brief(&Place::of(removed).text)),
            Why::OtherStep { before } => format!("it stood on {} before", label(before)),
            Why::NoCache if self.step.is_some() => format!("{here} ran without the cache"),
            Why::NoCache => "the cache was not to be used".into(),
            Why::Lost { how } if how.is_empty() => "its earlier result is no longer in the store".into(),
            Why::Lost { how } => format!("its earlier result {how}"),
            Why::Failed => "it failed the last time".into(),
            Why::Unfinished => "the last build ended before it was done".into(),
            Why::Unkeyed => "it stands on a whole local directory, which is no key for later builds".into(),
            Why::Key => "another version of rhost or of the frontend keys it in another way".into(),
            Why::Anew => format!("{here} ran again"),
        }
    }

    /// Whether the step is named by the words already.
    fn names_step(&self) -> bool {
        matches!(self.why, Why::NewStep | Why::NoCache | Why::Anew)
    }
}

/// The words for `causes` in one line.
pub fn sentence(causes: &[Cause]) -> String {
    let own = causes.iter().any(|cause| cause.step.is_none());
    // A follower says the root once; the step that has it says all.
    let named = if own { NAMED } else { 1 };
    let mut texts: Vec<String> = causes.iter().take(named).map(Cause::text).collect();
    if causes.len() > named {
        let rest = causes.len() - named;
        let files = causes[named..].iter().all(|cause| matches!(cause.why, Why::File { .. }));
        let noun = match (files, rest) {
            (true, 1) => " file",
            (true, _) => " files",
            (false, _) => "",
        };
        texts.push(format!("{rest} more{noun}"));
    }
    let mut text = texts.join(", ");
    if let Some(at) = text.rfind(", ").filter(|_| causes.len() > named) {
        text.replace_range(at..at + 2, " and ");
    }
    match causes.first() {
        Some(cause) if !own && !cause.names_step() => {
            format!("{text} (see {})", cause.step.as_deref().map(label).unwrap_or_default())
        }
        _ => text,
    }
}

/// How a step is pointed at: by the brackets of its name, else by its beginning.
pub fn label(name: &str) -> String {
    let place = Place::of(name);
    if place.label.is_empty() || place.stage == "internal" { format!("`{}`", brief(name)) } else { place.label }
}

/// The beginning of a text, on one line.
pub fn brief(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHORT) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn file(change: &Change, of: Option<&str>) -> String {
    let path = match of {
        Some(step) => format!("{} of {}", change.path, label(step)),
        None => change.path.clone(),
    };
    match &change.how {
        How::Changed => format!("{path} changed"),
        How::Target => format!("the target of the link {path} changed"),
        How::Added => format!("{path} is new"),
        How::Removed => format!("{path} is gone"),
        How::Renamed { from } => format!("{from} was renamed to {path}"),
        How::Mode { from, to } => format!("the mode of {path} changed from {from:04o} to {to:04o}"),
        How::Owner { from, to } => format!("the owner of {path} changed from {from} to {to}"),
        How::Kind { from, to } => format!("{path} was a {from} and is a {to}"),
        How::Below => format!("something in {path} changed"),
    }
}

fn noun(part: PartKind, name: &str, argument: bool) -> String {
    let of = |noun: &str| if name.is_empty() { noun.to_owned() } else { format!("{noun} {name}") };
    match part {
        PartKind::Command => "the command".into(),
        PartKind::Environment if argument => format!("the build argument {name}"),
        PartKind::Environment => format!("the variable {name}"),
        PartKind::EnvironmentOrder => "the order of the variables".into(),
        PartKind::Directory => "the working directory".into(),
        PartKind::User => "the user".into(),
        PartKind::Hostname => "the host name".into(),
        PartKind::Ulimit => format!("the limit {name}"),
        PartKind::Cgroup => "the parent control group".into(),
        PartKind::Host => format!("the line of /etc/hosts for {name}"),
        PartKind::Network => "the network".into(),
        PartKind::Security => "the security mode".into(),
        PartKind::Secret => format!("the secret in the variable {name}"),
        PartKind::Mount => format!("the mount at {name}"),
        PartKind::MountOrder => "the order of the mounts".into(),
        PartKind::MountSource => format!("the source of the mount at {name}"),
        PartKind::Device => format!("the device {name}"),
        PartKind::ExitCodes => "the exit codes".into(),
        PartKind::Platform => "the platform".into(),
        PartKind::Source => of("the source"),
        PartKind::SourceDirectory => of("the source's directory"),
        PartKind::Destination => of("the destination"),
        PartKind::Owner => of("the owner to give"),
        PartKind::Mode => of("the mode to give"),
        PartKind::Text => of("the text to write"),
        PartKind::Time => of("the time to give"),
        PartKind::Filter => "the patterns".into(),
        PartKind::Options => "an option".into(),
        PartKind::Origin => "the origin".into(),
        PartKind::Version => "what the origin stands for".into(),
    }
}

fn changed(noun: &str, values: &Values) -> String {
    let short = |text: &Option<String>| {
        text.clone().filter(|text| text.chars().count() <= SHORT && !text.chars().any(char::is_control))
    };
    match values {
        Values::Added { to } => match short(to).filter(|text| !text.is_empty()) {
            Some(to) => format!("{noun} is new (`{to}`)"),
            None => format!("{noun} is new"),
        },
        Values::Removed { from } => match short(from).filter(|text| !text.is_empty()) {
            Some(from) => format!("{noun} is gone (it was `{from}`)"),
            None => format!("{noun} is gone"),
        },
        Values::Changed { from, to } => match (short(from), short(to)) {
            (Some(from), Some(to)) if from != to => format!("{noun} changed from `{from}` to `{to}`"),
            _ => format!("{noun} changed"),
        },
    }
}

/// Name and digest of what an identifier names.
fn pinned(identifier: &str) -> (&str, Option<&str>) {
    match identifier.split_once("@sha256:") {
        Some((name, digest)) => (name, Some(digest)),
        None => (identifier, None),
    }
}

fn familiar(identifier: &str) -> &str {
    let name = identifier.strip_prefix("docker-image://").unwrap_or(identifier);
    name.strip_prefix("docker.io/library/").or(name.strip_prefix("docker.io/")).unwrap_or(name)
}

/// The beginning of a commit or of a digest.
fn short(version: &str) -> String {
    let (kind, hex) = version.split_once(':').map_or(("", version), |(_, hex)| ("sha256:", hex));
    format!("{kind}{}", hex.get(..12).unwrap_or(hex))
}

fn origin((from, was): (&str, Option<&str>), (to, is): (&str, Option<&str>)) -> String {
    let ((old, before), (new, now)) = (pinned(from), pinned(to));
    match (before, now) {
        (Some(before), Some(now)) if old == new && before != now => {
            format!("{} moved from sha256:{} to sha256:{}", familiar(new), short(before), short(now))
        }
        _ if old == new && was != is && was.is_some() && is.is_some() => {
            let word = |version: Option<&str>| version.map(short).unwrap_or_default();
            format!("{} moved from {} to {}", familiar(new), word(was), word(is))
        }
        _ if old == new => format!("{} has changed", familiar(new)),
        _ => format!("{} stands in place of {}", familiar(new), familiar(old)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed_file(path: &str) -> Cause {
        Cause::own(Why::File { change: Change { path: path.into(), how: How::Changed }, of: None })
    }

    #[test]
    fn one_line_names_what_matters() {
        assert_eq!(sentence(&[changed_file("a")]), "a changed");
        assert_eq!(sentence(&[changed_file("a"), changed_file("b")]), "a changed, b changed");
        let many: Vec<Cause> = (0..9).map(|n| changed_file(&format!("f{n}"))).collect();
        assert_eq!(sentence(&many), "f0 changed, f1 changed, f2 changed and 6 more files");
        let above: Vec<Cause> = many.iter().map(|cause| cause.seen_from_above("[build 2/3] COPY . .")).collect();
        assert_eq!(sentence(&above), "f0 changed and 8 more files (see [build 2/3])");
        assert_eq!(sentence(&above[..1]), "f0 changed (see [build 2/3])");
        assert_eq!(above[0].seen_from_above("[build 3/3] RUN x"), above[0], "the root stays the root");
        assert_eq!(sentence(&[Cause::own(Why::NewStep).seen_from_above("[2/4] RUN y")]), "[2/4] is new");
    }

    #[test]
    fn causes_in_words() {
        let moved = origin(("git://h/x.git#main", Some(&"a".repeat(40))), ("git://h/x.git#main", Some("bb")));
        assert_eq!(moved, "git://h/x.git#main moved from aaaaaaaaaaaa to bb");
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        let moved = origin(("https://h/x", Some(&digest("a"))), ("https://h/x", Some(&digest("b"))));
        assert_eq!(moved, "https://h/x moved from sha256:aaaaaaaaaaaa to sha256:bbbbbbbbbbbb");
        let origin = |from: &str, to: &str| origin((from, None), (to, None));
        assert_eq!(origin("https://h/x", "https://h/x"), "https://h/x has changed", "of an older rhost");
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let debian = "docker-image://docker.io/library/debian:12";
        assert_eq!(
            origin(&format!("{debian}@sha256:{a}"), &format!("{debian}@sha256:{b}")),
            "debian:12 moved from sha256:aaaaaaaaaaaa to sha256:bbbbbbbbbbbb"
        );
        assert_eq!(origin(debian, "docker-image://r.example/x:1"), "r.example/x:1 stands in place of debian:12");
        let part = |part, name: &str, values| {
            Cause::own(Why::Part { part, name: name.into(), argument: false, values }).text()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            part(PartKind::Command, "", Values::Changed { from: some("npm ci"), to: some("npm install") }),
            "the command changed from `npm ci` to `npm install`"
        );
        assert_eq!(
            part(PartKind::Environment, "V", Values::Changed { from: None, to: some("2") }),
            "the variable V changed"
        );
        assert_eq!(part(PartKind::User, "", Values::Added { to: some("app") }), "the user is new (`app`)");
        assert_eq!(part(PartKind::Mount, "/c", Values::Removed { from: None }), "the mount at /c is gone");
    }
}
