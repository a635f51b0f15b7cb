//! Files and contexts at URLs make BuildKit's images: names, modes, owners and times are what its daemon makes of the same server.
use std::process::Command;

use rhost_kit::{Answer, Proxy};

use super::case::{Case, age, make};
use super::peers::Peers;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const OLD_DATE: &str = "Sunday, 06-Nov-94 08:49:37 GMT";

/// A directory with a bit of everything that a context may hold, as an archive.
fn archive(work: &std::path::Path, name: &str, flags: &str) -> Vec<u8> {
    let source = work.join(name);
    std::fs::create_dir(&source).expect("made");
    let script = "mkdir -p dir/empty sub; echo a > a; chmod 640 a; echo tool > tool; chmod 4755 tool; ln -s a link; ln -s /dir absolute; ln a hard; \
                  echo f > dir/f; chmod 1777 dir; chown 12:34 dir/f; printf 'FROM scratch\\nCOPY . /all/\\nCOPY a dir /some/\\nCOPY --chown=7:8 --chmod=600 dir/f /own\\nADD tool /\\n' > Dockerfile; \
                  printf 'FROM scratch\\nCOPY --link . /linked\\nCOPY --exclude=tool --parents dir/f a /p/\\n' > sub/other; echo 'a' > .dockerignore";
    make(&source, script, name);
    age(&source);
    let mut tar = Command::new("sh");
    let out = tar.args(["-c", &format!("tar {flags} -cf - .")]).current_dir(&source).output().expect("tar");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn files_and_contexts_at_urls_make_buildkits_images() {
    let Some(peers) = Peers::start() else { return };
    let work = super::work();
    let packed = archive(work.path(), "packed", "-z");
    let plain = archive(work.path(), "plain", "--format=gnu --numeric-owner");
    let (first, second) = (packed.clone(), plain.clone());
    let server = Proxy::alone(move |asked| {
        let file = |body: &[u8]| Answer::reply(200, body);
        match asked.path.split('?').next().unwrap_or_default() {
            "/dated.txt" => file(b"dated").header("last-modified", DATE),
            "/old.txt" => file(b"old").header("last-modified", OLD_DATE),
            "/undated" => file(b"undated"),
            "/named" => file(b"named").header("content-disposition", "attachment; filename=\"other name.txt\""),
            "/moved" => Answer::reply(302, "").header("location", "/dated.txt"),
            "/packed.tgz" => file(&first).header("last-modified", DATE),
            "/plain.tar" => file(&second),
            "/Dockerfile" => file(b"FROM scratch\nCOPY context /self\n").header("last-modified", DATE),
            _ => Answer::reply(404, ""),
        }
    })
    .expect("a server");
    let url = |path: &str| server.url(path);
    let sum = rhost_llb::Digest::of("dated");
    let add = format!(
        "FROM scratch\nADD {} {} {} /d/\nADD {} /named\nADD --chmod=755 --chown=5:6 {} /x/\nADD {} /m/\nADD --checksum={sum} {} /sum\nADD {} /tgz/\nADD --unpack=true {} /un/\nADD --link {} /l/\n",
        url("dated.txt"),
        url("old.txt"),
        url("undated"),
        url("named"),
        url("undated"),
        url("moved"),
        url("dated.txt"),
        url("packed.tgz"),
        url("packed.tgz"),
        url("dated.txt?q=1"),
    );
    let case = |name: &str, dockerfile: &str, options: &[(&str, String)]| {
        let context = work.path().join(name);
        std::fs::create_dir(&context).expect("made");
        std::fs::write(context.join("Dockerfile"), dockerfile).expect("written");
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Case { name: name.to_owned(), context, options }
    };
    let from = "FROM scratch\nCOPY --from=extra / /got/\n";
    let cases = vec![
        case("add", &add, &[]),
        case("add-epoch", &add, &[("build-arg:SOURCE_DATE_EPOCH", "1600000000".into())]),
        case("context-packed", "", &[("context", url("packed.tgz"))]),
        case("context-plain", "", &[("context", url("plain.tar"))]),
        case("context-other", "", &[("context", url("plain.tar")), ("filename", "sub/other".into())]),
        case("context-file", "", &[("context", url("Dockerfile"))]),
        case("named", from, &[("context:extra", url("dated.txt"))]),
        case("named-archive", from, &[("context:extra", url("packed.tgz"))]),
    ];
    for case in &cases {
        // What both refuse is the same, too.
        peers.both(case, work.path(), "tar", "");
    }
    super::check(&peers, work.path(), cases);
}
