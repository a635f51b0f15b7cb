//! Contexts from a seed: a tree with everything a tree can have, and a Dockerfile that copies from it and changes what it copied.
use std::fs;
use std::path::Path;

use super::case::{Case, age, make};

/// xorshift64*: the same everywhere, for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const NAMES: &[&str] = &[
    "a",
    "b",
    "c",
    "a.b",
    "a-b",
    "A",
    "Z",
    "lib",
    "src",
    "Makefile",
    "x.txt",
    "y.txt",
    "z.log",
    "with space",
    "über",
    "…",
    "-dash",
    ".hidden",
    "a+b",
    "100%",
    "quote'",
    "[x]",
    "star*",
    "q?",
    "node_modules",
    "README.md",
    "long-long-long-long-long-long-long-long-name",
];

/// The context of `seed`, made below `work`.
pub fn case(seed: u64, work: &Path) -> Case {
    let name = format!("seed-{seed}");
    let context = work.join(&name);
    fs::create_dir_all(&context).expect("made");
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut script = String::new();
    let mut dirs = vec![String::new()];
    let (mut files, mut taken): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for _ in 0..4 + dice.below(24) {
        let parent = dirs[dice.below(dirs.len())].clone();
        let path = format!("{parent}{}", dice.one(NAMES));
        if taken.contains(&path) {
            continue;
        }
        taken.push(path.clone());
        let quoted = quote(&format!("./{path}"));
        match dice.below(20) {
            0..=5 => {
                script += &format!("mkdir {quoted}\n");
                if dice.chance(20) {
                    script += &format!("chmod {} {quoted}\n", dice.one(&["700", "1777", "2755", "0555"]));
                }
                dirs.push(format!("{path}/"));
                continue;
            }
            6..=13 => {
                script += &format!("head -c {} /dev/zero | tr '\\0' {} > {quoted}\n", dice.below(3000), dice.below(9));
                let mode = dice.one(&["644", "755", "600", "4755", "2711", "1644", "000", "444"]);
                script += &format!("chmod {mode} {quoted}\n");
                if dice.chance(15) {
                    script += &format!("chown {} {quoted}\n", dice.one(&["1000:1000", "65534:0", "70000:3000000"]));
                }
            }
            14..=16 => {
                let to = match dice.below(6) {
                    0 => "/etc/passwd".to_owned(),
                    1 => "nowhere".to_owned(),
                    2 => "..".to_owned(),
                    3 => ".".to_owned(),
                    _ => files.get(dice.below(files.len().max(1))).cloned().unwrap_or_else(|| "x".to_owned()),
                };
                // A link at the top that leads nowhere would make every `COPY *` fail.
                let path = if parent.is_empty() { format!("links/{path}") } else { path };
                script += &format!("mkdir -p links; ln -s -- {} {}\n", quote(&to), quote(&format!("./{path}")));
                continue;
            }
            17 => script += &format!("mkfifo {quoted}\n"),
            18 if !files.is_empty() => {
                let from = quote(&format!("./{}", files[dice.below(files.len())]));
                script += &format!("ln -- {from} {quoted}\n");
            }
            _ => script += &format!("truncate -s {} {quoted}\n", dice.below(1 << 18)),
        }
        files.push(path);
    }
    make(&context, &script, &name);
    // What is ignored cannot be named.
    let ignoring = dice.chance(30);
    if ignoring {
        files.clear();
        dirs.truncate(1);
    }
    fs::write(context.join("Dockerfile"), dockerfile(&mut dice, &dirs, &files)).expect("written");
    if ignoring {
        let lines: Vec<&str> = (0..1 + dice.below(3))
            .map(|_| {
                dice.one(&[
                    "**/a",
                    "*.log",
                    "src",
                    "!src/a",
                    "**/*.txt",
                    "!**/x.txt",
                    "lib/*",
                    "**/node_modules",
                    "!README.md",
                    "# c",
                    "Makefile/",
                ])
            })
            .collect();
        fs::write(context.join(".dockerignore"), lines.join("\n")).expect("written");
    }
    age(&context);
    Case { name, context, options: Vec::new() }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn dockerfile(dice: &mut Dice, dirs: &[String], files: &[String]) -> String {
    let mut text = String::from("FROM busybox AS one\nWORKDIR /w\n");
    if dice.chance(30) {
        text += "RUN mkdir -p /d/sub && echo 1 > /d/sub/f && ln -s sub /d/link && ln /d/sub/f /d/hard && touch -d @1000000000 /d/sub/f\n";
    }
    for _ in 0..3 + dice.below(8) {
        text += &match dice.below(16) {
            0..=6 => copy(dice, dirs, files),
            7 => format!("WORKDIR {}\n", dice.one(&["/w/x/y", "z", "/d/link/deep", "/w"])),
            8 => format!("USER {}\n", dice.one(&["0", "root", "1000:2000"])),
            9 => format!("COPY . {}\n", dice.one(&[".", "/all-of-it", "/all-of-it/", "/x/y"])),
            _ => format!("RUN {}\n", run(dice)),
        };
    }
    if dice.chance(40) {
        text += "FROM busybox\nCOPY --from=one / /all/\nRUN rm -rf /all/bin /all/w && mkdir /all/w\n";
    }
    text
}

fn copy(dice: &mut Dice, dirs: &[String], files: &[String]) -> String {
    let mut flags = String::new();
    if dice.chance(20) {
        flags += dice.one(&[
            "--chown=1000 ",
            "--chown=nobody ",
            "--chown=nobody:tty ",
            "--chown=5:6 ",
            "--chown=:7 ",
            "--chown=nosuch:7 ",
        ]);
    }
    if dice.chance(20) {
        flags += dice.one(&["--chmod=755 ", "--chmod=0600 ", "--chmod=4711 ", "--chmod=u=rwX,go=rX ", "--chmod=a+w "]);
    }
    let sources: Vec<String> = (0..1 + dice.below(2))
        .map(|_| match dice.below(5) {
            0 => "*".to_owned(),
            1 => format!("{}*", dice.one(&["a", "s", ".", "l", "?", "[A-Z]"])),
            2 | 3 if !files.is_empty() => escape(&files[dice.below(files.len())]),
            _ => format!("./{}", escape(&dirs[dice.below(dirs.len())])),
        })
        .collect();
    let patterns = sources.iter().any(|s| s.contains('*') || s.contains('?'));
    // Places of their own, mostly: what lands on something of another kind is refused, and a refused build shows little.
    let fresh = dice.below(1000);
    let to = match dice.below(10) {
        0..=5 => format!("/c/{fresh}/"),
        6 => format!("/c/{fresh}/deep/er/"),
        _ => dice.one(&["/c/", "./", "/w/sub/", "/d/link/", "/tmp/", "/c/.", "/etc/new/"]).to_owned(),
    };
    let single = match dice.below(10) {
        0..=6 => format!("/w/{fresh}"),
        7 => format!("/c/x/{fresh}/z"),
        _ => dice.one(&["/c/name", "/w/name", "/d/link", "/d/hard", "/d"]).to_owned(),
    };
    let words: Vec<String> = sources.iter().map(|s| json(s)).collect();
    let to = if sources.len() == 1 && !patterns && dice.chance(40) { single } else { to };
    format!("{} {flags}[{}, {}]\n", dice.one(&["COPY", "COPY", "ADD"]), words.join(", "), json(&to))
}

/// A name as a pattern that matches only it.
fn escape(path: &str) -> String {
    path.chars().flat_map(|c| if "*?[\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn run(dice: &mut Dice) -> &'static str {
    dice.one(&[
        "true",
        "touch /tmp/x && rm /tmp/x",
        "rm -rf /d && mkdir -p /d && echo new > /d/new",
        "rm -rf /w/sub; mkdir -p /w/sub && echo 1 > /w/sub/1",
        "mv /etc/group /etc/group2 && cp /etc/group2 /etc/group",
        "chmod 700 /root && chmod 755 /root && chmod 700 /root",
        "chmod 4755 /bin/busybox",
        "chown 1:2 /etc/passwd",
        "ln /bin/busybox /usr/local-busybox",
        "ln -sf /etc /etc-link && echo x > /etc-link/x",
        "rm -rf /home && ln -s /root /home",
        "rm -f /bin/vi && mkdir /bin/vi && echo x > /bin/vi/x",
        "mkfifo /fifo; mknod /null c 1 3",
        "rm -rf /var/tmp && mkdir /var/tmp && chmod 1777 /var/tmp",
        "mkdir -p /deep/a/b/c && touch /deep/a/b/c/f && rm -r /deep/a/b",
        "mv /w /w2 && mkdir /w && touch -d @1000000000 /w",
        "cat /etc/passwd > /tmp/p && cat /tmp/p > /etc/passwd",
        "touch -d @1735689600 /etc/passwd",
        "cp -a /etc /etc.bak",
        "find / -xdev -name '*.txt' -exec rm -f {} + 2>/dev/null || true",
        "dd if=/dev/zero of=/sparse bs=1 count=1 seek=1000000 2>/dev/null",
        "echo 1 > /tmp/h1 && ln /tmp/h1 /tmp/h2 && ln /tmp/h1 /etc/h3 && rm /tmp/h1",
        "rm -rf /d/sub && echo file > /d/sub || true",
        "mkdir -p /d && rm -rf /d/* && mkdir -p /d/sub && echo other > /d/sub/g",
    ])
}
