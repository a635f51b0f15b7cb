//! Frontends that were compiled for a released track load and run for ever; and the reference for people says what the package says.
use rhost_frontend::{Invocation, Limits};
use rhost_llb::{Graph, Platform};

use crate::kit::{Host, kit};

fn checkout(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What an archived guest of this name is asked, and the digest of its answer: a graph that must stay the same for ever.
fn question(name: &str) -> (&'static str, &'static str) {
    match name.rsplit_once('-').map(|(language, _)| language) {
        Some("lines") => (
            "from busybox\nenv A=1\nrun echo $A > /a\ncmd cat /a\n",
            "sha256:6c5da44ca94c7a0e9d984673cdeca9fc8b9ac1a678f5e84c58d92a86449aacb2",
        ),
        // In every language the same.
        Some("samples-go" | "samples-js") => {
            ("multi-stage\n", "sha256:ef2fcda52d63c5353ae391a7ed4d7d08ccd3612bbc6c34e49435695060f87fc6")
        }
        _ => panic!("{name}: an archived guest comes with a question (docs/frontends/versioning.md)"),
    }
}

/// The component in an archived file; `None` of a file that is none.
fn component(path: &std::path::Path) -> Option<(String, Vec<u8>)> {
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = std::fs::read(path).unwrap();
    match (file.strip_suffix(".wasm"), file.strip_suffix(".wasm.zst")) {
        (Some(name), _) => Some((name.to_owned(), bytes)),
        (_, Some(name)) => Some((name.to_owned(), zstd::decode_all(&bytes[..]).unwrap())),
        _ => None,
    }
}

#[tokio::test]
async fn archived_guests_load_and_run() {
    let kit = kit();
    let list = std::fs::read_to_string(checkout("tests/guests/archive/README.md")).unwrap();
    let (mut ran, mut wrong) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(checkout("tests/guests/archive")).unwrap() {
        let Some((name, bytes)) = component(&entry.unwrap().path()) else { continue };
        let digest = rhost_llb::Digest::of(&bytes).to_string();
        // Nobody builds one anew.
        assert!(
            list.contains(&format!("| `{name}` | `{digest}` |")),
            "README.md of the archive has no {name} {digest}"
        );
        let frontend = kit.load(&bytes).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let invocation = Invocation::new("build", Platform::new("linux", "amd64", ""));
        let (text, wanted) = question(&name);
        let outcome = frontend.build(Host::new(&[("build", text)]), invocation, &Limits::HOSTILE).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        let target = &outcome.targets[0];
        let graph = Graph::load(&target.definition, &rhost_llb::Limits::HOSTILE).unwrap();
        let vertices: Vec<String> = graph.vertices().iter().map(|vertex| vertex.digest.to_string()).collect();
        let answer = [vertices.join("\n").as_bytes(), &target.config].concat();
        let answer = rhost_llb::Digest::of(answer).to_string();
        if answer != wanted {
            wrong.push(format!("{name}: {answer}"));
        }
        ran.push(name);
    }
    ran.sort();
    assert!(wrong.is_empty(), "other answers than ever: {wrong:#?}");
    // Of each released track a small one, and one with each language's runtime inside.
    assert_eq!(ran, ["lines-0.1.0", "samples-go-0.1.0", "samples-js-0.1.0"]);
}

/// The archived guest as if it had been made for another version: only the names of its imports differ.
#[tokio::test]
async fn guests_of_other_versions_are_told_who_has_to_move() {
    let kit = kit();
    let bytes = std::fs::read(checkout("tests/guests/archive/lines-0.1.0.wasm")).unwrap();
    for (version, side) in [(b"@0.2.0", "upgrade rhost"), (b"@0.0.9", "upgrade the frontend")] {
        let mut other = bytes.clone();
        let places: Vec<_> = other.windows(6).enumerate().filter(|(_, at)| at == b"@0.1.0").map(|(at, _)| at).collect();
        assert!(places.len() >= 8, "{places:?}");
        places.into_iter().for_each(|at| other[at..at + 6].copy_from_slice(version));
        let error = kit.load(&other).await.err().expect("it is refused").to_string();
        let version = String::from_utf8_lossy(version);
        assert!(error.contains("wants rhost:frontend/") && error.contains(&format!("llb{version}")), "{error}");
        assert!(error.contains(&format!("this rhost offers rhost:frontend@0.1.0: {side}")), "{error}");
    }
}

#[test]
fn the_reference_has_all_of_the_package() {
    let page = std::fs::read_to_string(checkout("docs/frontends/reference.md")).unwrap();
    // Line breaks are the page's own.
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page_text = flat(&page.replace("**", ""));
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(checkout("wit/rhost-frontend@0.1.0")).unwrap();
    let mut checked = 0;
    let mut check = |what: String, docs: &Option<String>| {
        assert!(page_text.contains(&flat(&what)), "docs/frontends/reference.md has no {what}");
        for paragraph in docs.iter().flat_map(|docs| docs.split("\n\n")).filter(|text| !text.starts_with('|')) {
            let paragraph = flat(&paragraph.replace("# ", "").replace('#', ""));
            assert!(page_text.contains(&paragraph), "docs/frontends/reference.md does not say of {what}: {paragraph}");
            checked += 1;
        }
    };
    for (name, id) in &resolve.packages[package].interfaces {
        let interface = &resolve.interfaces[*id];
        check(format!("Interface `{name}`"), &interface.docs.contents);
        for (name, id) in &interface.types {
            let used = matches!(resolve.types[*id].kind, wit_parser::TypeDefKind::Type(wit_parser::Type::Id(_)));
            if !used {
                check(format!("`{name}"), &resolve.types[*id].docs.contents);
            }
        }
        for function in interface.functions.values() {
            let name = function.item_name();
            let name =
                if matches!(function.kind, wit_parser::FunctionKind::Constructor(_)) { "constructor(" } else { name };
            let shown = if name == "constructor(" { name.to_owned() } else { format!("{name}: func(") };
            check(shown, &function.docs.contents);
        }
    }
    assert!(checked > 100, "{checked}");
}
