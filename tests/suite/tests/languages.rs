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
    assert!(told.ends_with("\n8 passed, 0 failed\n"), "{language}: {told}");
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

/// With the user's own environment: the language's tools live there. Only store and configuration are the test's.
fn rhost(host: &TestHost, dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(host.binary());
    command.args(arguments).current_dir(dir).env("RHOST_ROOT", host.root());
    command.env("RHOST_CONFIG", host.dir().join("config.toml")).output().expect("it starts")
}

fn says(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn fine(output: Output) -> String {
    assert!(output.status.success(), "{}", says(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// From new to an image, and on to a registry: with the tools of `language`, one of which is `tool`.
fn project(language: &str, tool: &str, source: &str) {
    if !rhost_kit::have(&[tool]) {
        return;
    }
    let Some((host, registry)) = rhost_kit::host_with_busybox() else { return };
    let run = |dir: &Path, arguments: &[&str]| rhost(&host, dir, arguments);
    fine(run(&host.work(), &["frontend", "new", "--lang", language, "my-lang"]));
    let again = run(&host.work(), &["frontend", "new", "--lang", language, "my-lang"]);
    assert!(again.status.code() == Some(2) && says(&again).contains("is there already"), "{}", says(&again));
    let dir = host.work().join("my-lang");
    lend_tools(&host, language, &dir);
    let built = run(&dir, &["frontend", "build"]);
    if says(&built).contains("is not there") {
        return rhost_kit::skip(&says(&built));
    }
    assert!(fine(built).contains("my-lang.wasm ("));
    let told = fine(run(&dir, &["frontend", "test", "--frontend", "."]));
    assert!(told.ends_with("2 passed, 0 failed\n"), "{told}");
    assert!(fine(run(&dir, &["frontend", "build"])).contains("up to date"));

    let image = host.dir().join("image.tar").display().to_string();
    let output = format!("type=oci,dest={image}");
    fine(run(&dir, &["build", "--frontend", ".", "-f", "example.build", "-o", "../tree", "-o", &output, "."]));
    assert_eq!(fs::read_to_string(host.work().join("tree/hello.txt")).expect("hello"), "hello, world\n");
    assert!(host.work().join("tree/bin/busybox").exists());
    let config = Command::new("skopeo").args(["inspect", "--config", &format!("oci-archive:{image}")]).output();
    let config: serde_json::Value = serde_json::from_str(&fine(config.expect("skopeo"))).expect("JSON");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/bin/sh", "-c", "cat /hello.txt"]));

    shipped(&host, &registry, &dir);

    let path = dir.join(source);
    let text = fs::read_to_string(&path).expect("the source");
    if rebuilds(language) {
        fs::write(&path, text.replace("hello, ", "good day, ")).expect("written");
        let tested = run(&dir, &["frontend", "test", "--frontend", "."]);
        assert!(tested.status.code() == Some(1) && says(&tested).contains("good day"), "{}", says(&tested));
    }
    fs::write(&path, "this is no source").expect("written");
    let before = fs::read(dir.join("my-lang.wasm")).expect("the component");
    let failed = run(&dir, &["frontend", "build"]);
    assert!(failed.status.code() == Some(4), "{}", says(&failed));
    assert!(fs::read(dir.join("my-lang.wasm")).expect("still there") == before, "whole or not at all");
}

/// The project in `dir` goes to a registry with what it says of itself, and from there builds what it built.
fn shipped(host: &TestHost, registry: &rhost_kit::Registry, dir: &Path) {
    let run = |arguments: &[&str]| rhost(host, dir, arguments);
    let to = registry.name("me/my-lang:1");
    let pinned = fine(run(&["frontend", "push", ".", &to, "--language", "mine,other"])).trim().to_owned();
    let about = |what: &str| -> serde_json::Value {
        let told = fine(run(&["frontend", "inspect", "--json", what]));
        serde_json::from_str::<serde_json::Value>(&told).expect("JSON")["annotations"].take()
    };
    let mut wanted = serde_json::json!({
        "dev.rhost.frontend.name": "my-lang",
        "org.opencontainers.image.version": "0.1.0",
        "org.opencontainers.image.description": "A small build language",
        "dev.rhost.frontend.languages": "my-lang",
        "dev.rhost.frontend.file-patterns": "*.build",
    });
    assert_eq!(about("."), wanted);
    assert_eq!(about("./my-lang.wasm"), wanted);
    // A flag goes before.
    wanted["dev.rhost.frontend.languages"] = "mine,other".into();
    wanted["dev.rhost.frontend.track"] = "rhost:frontend@0.1.0".into();
    assert_eq!(about(&pinned), wanted);
    host.write("elsewhere/some.build", format!("# syntax={pinned}\nFROM busybox\nHELLO you\n")).expect("written");
    let elsewhere = host.work().join("elsewhere");
    fine(rhost(host, &elsewhere, &["build", "-f", "some.build", "-o", "tree", "."]));
    assert_eq!(fs::read_to_string(elsewhere.join("tree/hello.txt")).expect("hello"), "hello, you\n");
}

/// Whether building again costs seconds only.
fn rebuilds(language: &str) -> bool {
    matches!(language, "rust" | "go")
}

/// What `frontend build` would install into the project, and takes long: from the user's cache, where the first test of a version of it has built a project.
pub fn lend_tools(host: &TestHost, language: &str, dir: &Path) {
    let (installed, pins) = match language {
        "js" => ("node_modules", "package-lock.json"),
        "python" => (".rhost/python", "requirements.txt"),
        _ => return,
    };
    let pins = rhost_llb::Digest::of(fs::read(dir.join(pins)).expect("the template pins its tools")).to_string();
    let name = format!("tools-{language}-{}", &pins["sha256:".len()..][..16]);
    let tools = rhost_kit::kept(&name, |place| {
        fine(rhost(host, place, &["frontend", "new", "--lang", language, "--dir", ".", "my-lang"]));
        let built = rhost(host, place, &["frontend", "build"]);
        if built.status.success() { Ok(()) } else { Err(std::io::Error::other(says(&built)).into()) }
    });
    // Without them, building says what is missing.
    let Ok(tools) = tools else { return };
    let link = dir.join(installed);
    fs::create_dir_all(link.parent().expect("below the project")).expect("a directory");
    std::os::unix::fs::symlink(tools.join(installed), link).expect("a link");
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
fn a_new_project_in_javascript() {
    project("js", "node", "src/frontend.js");
}

#[test]
fn a_new_project_in_python() {
    project("python", "python3", "src/frontend.py");
}

/// Built for another about: the table alone makes another component, a mistake in it none, and a stranger's section is not shipped.
#[test]
fn what_a_frontend_says_of_itself_is_checked_on_both_sides() {
    let Some(lines) = built("lines") else { return };
    let host = TestHost::new().expect("a host");
    let toml = "name = \"x\"\nlanguage = \"go\"\n\n[about]\nversion = \"1\"\nfiles = [\"*.x\"]\n";
    host.write("p/frontend.toml", toml).expect("written");
    let dir = host.work().join("p").display().to_string();
    let text = host.run(["frontend", "push", &dir, "registry.invalid/x:1"]).expect("ran").failure(2);
    assert!(text.contains("p/frontend.toml:6\n") && text.contains(">>> files = [\"*.x\"]"), "{text}");
    assert!(text.contains("unknown field `files`, expected one of `name`, `version`"), "{text}");
    let mut bytes = fs::read(&lines).expect("a component");
    let json = br#"{"format":1,"name":"\u001b[2J"}"#;
    bytes.extend([&[0, json.len() as u8 + 12, 11][..], b"rhost:about", json].concat());
    let file = host.write("x.wasm", &bytes).expect("written").display().to_string();
    let told = host.run(["frontend", "inspect", &file]).expect("ran").success();
    let reason = "the section `rhost:about` has `name` that is no line of text: it has control characters";
    assert!(told.contains(&format!("about:    cannot be read: {reason}")) && !told.contains('\u{1b}'), "{told}");
    let text = host.run(["frontend", "push", &file, "registry.invalid/x:1"]).expect("ran").failure(4);
    assert!(text.contains(reason) && text.contains("frontend.toml"), "{text}");
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
