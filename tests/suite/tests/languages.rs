//! Frontends in four languages: the same samples make the same graphs, the shipped ones build images, a new project works.
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rhost_kit::TestHost;

use crate::frontends::built;

const LANGUAGES: [(&str, &str); 4] =
    [("rust", "lib.rs:"), ("js", "frontend.js:"), ("python", "frontend.py:"), ("go", "main.go:")];

fn checkout(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).display().to_string()
}

/// The cases have one golden each, with digests: what one language makes, all must make. A mistake in the frontend itself is told with its place.
fn sample(language: &str, place: &str) {
    let Some(component) = built(&format!("samples-{language}")) else { return };
    let host = TestHost::new().expect("a host");
    let told = host.run(["frontend", "test", "--frontend", &component, &checkout("tests/guests/samples/cases")]);
    let told = told.expect("ran").success();
    assert!(told.ends_with("\n7 passed, 0 failed\n"), "{language}: {told}");
    host.write("ctx/build", "panic\n").expect("written");
    let context = host.work().join("ctx").display().to_string();
    let file = format!("{context}/build");
    let told = host.run(["debug", "dump-llb", "--frontend", &component, "-f", &file, &context]).expect("ran");
    assert!(told.code != 0, "{language}: a mistake of the frontend goes unnoticed");
    assert!(told.stderr.contains("as it was asked to") && told.stderr.contains(place), "{language}: {}", told.stderr);
}

#[test]
fn samples_in_rust() {
    sample(LANGUAGES[0].0, LANGUAGES[0].1);
}

#[test]
fn samples_in_javascript() {
    sample(LANGUAGES[1].0, LANGUAGES[1].1);
}

#[test]
fn samples_in_python() {
    sample(LANGUAGES[2].0, LANGUAGES[2].1);
}

#[test]
fn samples_in_go() {
    sample(LANGUAGES[3].0, LANGUAGES[3].1);
}

/// Each piece of the cookbook is a piece of a sample, word by word, and each recipe is there in each language.
#[test]
fn the_cookbook_quotes_the_samples() {
    let page = fs::read_to_string(checkout("docs/frontends/cookbook.md")).expect("the page");
    for (language, file) in [
        ("rust", "rust/src/lib.rs"),
        ("js", "js/src/frontend.js"),
        ("python", "python/src/frontend.py"),
        ("go", "go/main.go"),
    ] {
        let source = fs::read_to_string(checkout(&format!("tests/guests/samples/{file}"))).expect("the sample");
        let opening = format!("```{language}\n");
        let quoted: Vec<&str> = page.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
        assert_eq!(quoted.len(), 5, "{language}");
        for piece in quoted {
            assert!(source.contains(piece), "docs/frontends/cookbook.md quotes what {file} does not have:\n{piece}");
        }
    }
}

/// The tutorial shows what the template has.
#[test]
fn the_tutorial_quotes_the_template() {
    let page = fs::read_to_string(checkout("docs/frontends/tutorial.md")).expect("the page");
    let template = fs::read_to_string(checkout("sdk/python/template/src/frontend.py")).expect("the template");
    let piece = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a piece");
    assert!(template.contains(piece), "{piece}");
}

/// Builds `text` with the frontend `name`; gives the files and what was said. Steps that need them find files of the context.
fn build(name: &str, file: &str, text: &str, files: &[(&str, &str)]) -> Option<(TestHost, String)> {
    let component = built(name)?;
    let (host, registry) = rhost_kit::host_with_busybox()?;
    for (path, contents) in files.iter().chain(&[(file, text)]) {
        host.write(&format!("ctx/{path}"), contents).expect("written");
    }
    let context = host.work().join("ctx").display().to_string();
    let path = format!("{context}/{file}");
    let tree = host.dir().join("tree").display().to_string();
    host.run(["build", "--frontend", &component, "-f", &path, "-o", &tree, &context]).expect("ran").success();
    host.write(&format!("ctx/{file}"), text.replace("# mistake", "nobody").replace("// mistake", "nobody"))
        .expect("written");
    let wrong = host.run(["build", "--frontend", &component, "-f", &path, &context]).expect("ran");
    drop(registry);
    assert!(wrong.code != 0, "{name}: {}", wrong.stderr);
    Some((host, wrong.stderr))
}

fn made(host: &TestHost, path: &str) -> String {
    fs::read_to_string(host.dir().join("tree").join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_build_file_is_a_javascript_program() {
    let text = r#"const app = image("docker.io/library/busybox").env({ WHO: "all" });
for (const name of read("names.txt").trim().split("\n")) app.write(`/greetings/${name}`, `hello, ${name}\n`);
// mistake
build(app.copy("names.txt", "/srv/").run('cat /greetings/* > /all && echo "$WHO" >> /all', { cache: "/cache" }).cmd("cat", "/all"));
"#;
    let Some((host, wrong)) = build("script-js", "build.js", text, &[("names.txt", "moon\nworld\n")]) else { return };
    assert_eq!(made(&host, "all"), "hello, moon\nhello, world\nall\n");
    assert_eq!(made(&host, "srv/names.txt"), "moon\nworld\n");
    assert!(wrong.contains("build.js:3") && wrong.contains("nobody is not defined"), "{wrong}");
}

#[test]
fn a_build_file_is_a_python_program() {
    let text = r#"app = image("docker.io/library/busybox").env(WHO="all")
for name in read("names.txt").split():
    app.write(f"/greetings/{name}", f"hello, {name}\n")
# mistake
build(app.copy("names.txt", "/srv/").run('cat /greetings/* > /all && echo "$WHO" >> /all', cache="/cache").cmd("cat", "/all"))
"#;
    let Some((host, wrong)) = build("script-python", "build.py", text, &[("names.txt", "moon\nworld\n")]) else {
        return;
    };
    assert_eq!(made(&host, "all"), "hello, moon\nhello, world\nall\n");
    assert_eq!(made(&host, "srv/names.txt"), "moon\nworld\n");
    assert!(wrong.contains("build.py:4") && wrong.contains("name 'nobody' is not defined"), "{wrong}");
}

#[test]
fn go_greets() {
    let text = "from docker.io/library/busybox\ngreet world\ngreet Welt in german\nrun /bin/sh -c 'cat /greetings/* > /all'\n# mistake\n";
    let Some((host, wrong)) = build("go-hello", "hello", text, &[]) else { return };
    assert_eq!(made(&host, "all"), "hallo, Welt\nhello, world\n");
    assert!(made(&host, "bin/greet").contains("cat '/greetings/Welt'"));
    assert!(wrong.contains("hello:5") && wrong.contains("there is no verb `nobody`"), "{wrong}");
}

/// With the user's own environment: the language's tools live there. Only the store is the test's.
fn rhost(host: &TestHost, dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(host.binary());
    command.args(arguments).current_dir(dir).env("RHOST_ROOT", host.root()).output().expect("it starts")
}

fn says(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// new, build, test, change, again; with the tools of `language`.
fn project(language: &str, tool: &str, source: &str) {
    if !rhost_kit::have(&[tool]) {
        return rhost_kit::skip(&format!("{tool} is not installed"));
    }
    let host = TestHost::new().expect("a host");
    let run = |dir: &Path, arguments: &[&str]| rhost(&host, dir, arguments);
    let new = run(&host.work(), &["frontend", "new", "--lang", language, "my-lang"]);
    assert!(new.status.success(), "{}", says(&new));
    let again = run(&host.work(), &["frontend", "new", "--lang", language, "my-lang"]);
    assert!(again.status.code() == Some(2) && says(&again).contains("is there already"), "{}", says(&again));
    let dir = host.work().join("my-lang");
    let tested = run(&dir, &["frontend", "test", "--frontend", "."]);
    if says(&tested).contains("is not there") {
        return rhost_kit::skip(&says(&tested));
    }
    let told = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(tested.status.success() && told.ends_with("2 passed, 0 failed\n"), "{}", says(&tested));
    let built = run(&dir, &["frontend", "build"]);
    assert!(says(&built).contains("up to date"), "{}", says(&built));
    let path = dir.join(source);
    let text = fs::read_to_string(&path).expect("the source");
    fs::write(&path, text.replace("hello, ", "good day, ")).expect("written");
    let tested = run(&dir, &["frontend", "test", "--frontend", "."]);
    assert!(tested.status.code() == Some(1) && says(&tested).contains("good day"), "{}", says(&tested));
    fs::write(&path, "this is no source").expect("written");
    let before = fs::read(dir.join("my-lang.wasm")).expect("the component");
    let failed = run(&dir, &["frontend", "build"]);
    assert!(failed.status.code() == Some(4) && says(&failed).contains(tool), "{}", says(&failed));
    assert!(fs::read(dir.join("my-lang.wasm")).expect("still there") == before, "whole or not at all");
}

#[test]
fn a_new_project_in_rust() {
    project("rust", "cargo", "src/lib.rs");
}

#[test]
fn a_new_project_in_go() {
    project("go", "go", "main.go");
}

#[test]
fn what_is_no_project_is_refused_with_the_way_out() {
    let host = TestHost::new().expect("a host");
    let new = |lang: &str, name: &str| host.run(["frontend", "new", "--lang", lang, name]).expect("ran").failure(2);
    assert!(new("go", "My_Lang").contains("cannot be a frontend's name"));
    assert!(new("perl", "x").contains("invalid value 'perl'"));
    host.write("empty/x", "").expect("written");
    let dir = host.work().join("empty").display().to_string();
    let text = host.run(["frontend", "build", &dir]).expect("ran").failure(2);
    assert!(text.contains("is no frontend project") && text.contains("rhost frontend new"), "{text}");
    host.write("empty/frontend.toml", "name = \"x\"\nlanguage = \"python\"\n").expect("written");
    // A hermetic host has no tools in PATH.
    let text = host.command(["frontend", "build", &dir]).env("PATH", "/nowhere").output().expect("ran");
    let text = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(text.contains("python3 3.10 or later is not there") && text.contains("apt-get install python3"), "{text}");
}
