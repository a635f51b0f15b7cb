//! Build contexts: folders, or bundles, which hold a folder in one text file.
//!
//! A bundle's sections begin with `-- NAME --`. `@options` has one option of BuildKit's frontend a line, `@make` a shell script that
//! is run in the folder, for what a text file cannot hold: owners, modes, links, devices, names that are no text.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// A context and what to build of it.
pub struct Case {
    pub name: String,
    pub context: PathBuf,
    /// As the Dockerfile frontend takes them: `target=x`, `build-arg:A=1`, `context:name=DIR`, ….
    pub options: Vec<(String, String)>,
}

impl Case {
    /// Reads `source`, a bundle or a folder; bundles are laid out below `work`.
    pub fn read(source: &Path, work: &Path) -> Self {
        let name = source.file_stem().expect("a name").to_string_lossy().into_owned();
        if source.is_dir() {
            let options = fs::read_to_string(source.join("@options")).unwrap_or_default();
            return Self { name, context: source.to_owned(), options: parse_options(&options) };
        }
        let context = work.join(&name);
        fs::create_dir_all(&context).expect("made");
        let text = fs::read_to_string(source).expect("a bundle");
        let (mut options, mut script) = (String::new(), String::new());
        for (file, content) in sections(&text) {
            match file {
                "@options" => options = content,
                "@make" => script = content,
                file => {
                    let path = context.join(file);
                    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
                    fs::write(&path, content).expect("written");
                }
            }
        }
        make(&context, &script, &name);
        age(&context);
        Self { name, context, options: parse_options(&options) }
    }
}

/// Runs `script` in `context`.
pub fn make(context: &Path, script: &str, name: &str) {
    if script.is_empty() {
        return;
    }
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(context).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let ran = command.env("LC_ALL", "C").stdin(Stdio::null()).output().expect("sh");
    assert!(ran.status.success(), "{name}: @make: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Gives every file that was made just now a time of its own in the past, with a fraction: what a build keeps of it shows. Other contexts
/// have other times: a daemon takes files of the same name, size and time for the same.
pub fn age(top: &Path) {
    let name = top.file_name().expect("a name").to_string_lossy();
    let shift = name.bytes().fold(0_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 99_991);
    let recent = SystemTime::now() - Duration::from_secs(3600);
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let path = found[at].clone();
        at += 1;
        if fs::symlink_metadata(&path).expect("there").is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path).expect("read").map(|e| e.expect("read").path()).collect();
            names.sort();
            found.extend(names);
        }
    }
    for (index, path) in found.iter().enumerate().rev() {
        if fs::symlink_metadata(path).expect("there").modified().expect("a time") < recent {
            continue;
        }
        let time =
            format!("@{}.{:09}", 1_600_000_000 + shift * 997 + index * 3601, (index * 123_456_789) % 1_000_000_000);
        let done = Command::new("touch").args(["-h", "-d", &time]).arg(path).status().expect("touch");
        assert!(done.success(), "touch -d {time} {}", path.display());
    }
}

fn parse_options(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap_or((line, ""))).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn sections(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
            Some(name) => found.push((name, String::new())),
            None => {
                if let Some((_, content)) = found.last_mut() {
                    content.push_str(line);
                }
            }
        }
    }
    found
}
