//! From text to lines that mean something. Pure: no host in sight.

/// A line that does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: u32,
    /// What it says.
    pub verb: Verb,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// `from IMAGE`
    From(String),
    /// `run COMMAND …`, for a shell
    Run(String),
    /// `copy SOURCE DESTINATION`
    Copy(String, String),
    /// `env NAME=VALUE`
    Env(String, String),
    /// `label NAME=VALUE`
    Label(String, String),
    /// `workdir PATH`
    Workdir(String),
    /// `user NAME`
    User(String),
    /// `cmd PROGRAM ARGUMENT …`, split at blanks
    Cmd(Vec<String>),
}

/// Why a line means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

const VERBS: [&str; 8] = ["from", "run", "copy", "env", "label", "workdir", "user", "cmd"];

/// All lines, or all faults. Blank lines and lines that start with `#` say nothing.
pub fn parse(text: &str) -> Result<Vec<Line>, Vec<Fault>> {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    for (number, text) in (1u32..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match verb(text) {
            Ok(verb) => {
                if lines.is_empty() && faults.is_empty() && !matches!(verb, Verb::From(_)) {
                    faults.push(fault(
                        number,
                        "the first line that counts must be `from IMAGE`".into(),
                        Some("`from scratch` starts with nothing"),
                    ));
                }
                lines.push(Line { number, verb });
            }
            Err((message, help)) => faults.push(fault(number, message, help.as_deref())),
        }
    }
    if lines.is_empty() && faults.is_empty() {
        faults.push(fault(1, "there is nothing here to build".into(), Some("start with `from IMAGE`")));
    }
    let repeated = lines.iter().filter(|line| matches!(line.verb, Verb::From(_))).nth(1);
    faults.extend(repeated.map(|line| fault(line.number, "a second `from`: one file builds one image".into(), None)));
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}

fn fault(line: u32, message: String, help: Option<&str>) -> Fault {
    Fault { line, message, help: help.map(str::to_owned) }
}

fn verb(text: &str) -> Result<Verb, (String, Option<String>)> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let wanted = |form: &str| Err((format!("wanted `{form}`, found `{text}`"), None));
    match (name, &words[..]) {
        ("from", [image]) => Ok(Verb::From((*image).to_owned())),
        ("from", _) => wanted("from IMAGE"),
        ("run", [_, ..]) => Ok(Verb::Run(rest.to_owned())),
        ("run", []) => wanted("run COMMAND"),
        ("copy", [source, destination]) => Ok(Verb::Copy((*source).to_owned(), (*destination).to_owned())),
        ("copy", _) => wanted("copy SOURCE DESTINATION"),
        ("env" | "label", _) => match rest.split_once('=') {
            Some((key, value)) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                let (key, value) = (key.to_owned(), value.to_owned());
                Ok(if name == "env" { Verb::Env(key, value) } else { Verb::Label(key, value) })
            }
            _ => wanted(&format!("{name} NAME=VALUE")),
        },
        ("workdir", [path]) if path.starts_with('/') => Ok(Verb::Workdir((*path).to_owned())),
        ("workdir", _) => wanted("workdir /PATH"),
        ("user", [user]) => Ok(Verb::User((*user).to_owned())),
        ("user", _) => wanted("user NAME"),
        ("cmd", [_, ..]) => Ok(Verb::Cmd(words.iter().map(|word| (*word).to_owned()).collect())),
        ("cmd", []) => wanted("cmd PROGRAM ARGUMENT …"),
        _ => {
            let lower = name.to_lowercase();
            let help = match VERBS.iter().find(|verb| **verb == lower) {
                Some(verb) => format!("in lower case: `{verb}`"),
                None => format!("there are {}", VERBS.join(", ")),
            };
            Err((format!("`{name}` is no verb"), Some(help)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(u32, String)> {
        parse(text).unwrap_err().into_iter().map(|fault| (fault.line, fault.message)).collect()
    }

    #[test]
    fn reads_every_verb() {
        let text = "# syntax=x\n\nfrom busybox\n run echo  hi \ncopy a /b\nenv A=b=c\nlabel l=\nworkdir /w\nuser u\ncmd sh -c x\n";
        let lines = parse(text).unwrap();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0], Line { number: 3, verb: Verb::From("busybox".into()) });
        assert_eq!(lines[1].verb, Verb::Run("echo  hi".into()));
        assert_eq!(lines[3].verb, Verb::Env("A".into(), "b=c".into()));
        assert_eq!(lines[4].verb, Verb::Label("l".into(), String::new()));
        assert_eq!(lines[7].verb, Verb::Cmd(vec!["sh".into(), "-c".into(), "x".into()]));
    }

    #[test]
    fn says_all_that_is_wrong_with_line_numbers() {
        let found = faults("from a\nRUN x\ncopy a\n\nenv =x\n");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(parse("from a\nRUN x").unwrap_err()[0].help.as_deref(), Some("in lower case: `run`"));
    }

    #[test]
    fn wants_one_from_at_the_start() {
        assert_eq!(faults("run x")[0].0, 1);
        assert_eq!(faults("from a\nfrom b")[0].0, 2);
        assert_eq!(faults("# nothing\n")[0].0, 1);
    }
}
