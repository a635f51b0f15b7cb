//! Set-up and chores: `cargo xtask <job>`. Every job does its own set-up, so that a fresh machine needs no other step.
mod jobs;
mod order;
mod peers;
mod setup;
mod tidy;
mod wasm;

use anyhow::Result;

const HELP: &str = "\
cargo xtask <job>

  demo         set up, build rhost, build tests/scenarios/demo with it and run the image
  test [ARGS]  set up and run every test; ARGS go to `cargo test` (names to filter by)
  build        the release binary, stock frontend inside, at target/release/rhost
  bench [ARGS] time rhost against a real BuildKit, as root, on a tmpfs; ARGS: names of cases, --repeats N, --list, and
               --write for docs/benchmarks.md
  order        watch builds and write down which functions they run, which the release binary then has first
  torture [N [SEED]]  kill builds at N random points (1000 when not said); nothing may be left, the next build must be right
  tidy         check the rules of the house: arrows, module docs, file lengths, frozen WIT
  guests       build the WASM guests into target/guests/
  languages    build the guests in JavaScript, Python and Go, and the SDKs' samples, into target/guests/ (wants Node.js, Python, Go)
  toolchain    find or make the toolchain for wasm32-unknown-unknown and say which
  setup        install the Debian packages that the tests use (as root or through sudo)
  peers        build the real clients and servers that tests talk to, into the user's cache
";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("demo") => jobs::demo(),
        Some("test") => jobs::test(rest),
        Some("build") => jobs::build().map(drop),
        Some("bench") => jobs::bench(rest),
        Some("order") => order::learn(),
        Some("torture") => jobs::torture(rest),
        Some("tidy") => tidy::run(),
        Some("guests") => wasm::guests().map(drop),
        Some("languages") => wasm::projects(),
        Some("toolchain") => wasm::describe_toolchain(),
        Some("setup") => setup::install(setup::TEST_PACKAGES),
        Some("peers") => peers::all().map(drop),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => {
            eprintln!("xtask: there is no job `{other}`\n\n{HELP}");
            std::process::exit(2);
        }
    }
}
