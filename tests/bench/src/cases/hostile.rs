//! Hostile frontends: how soon each is stopped. They are those of the tests (`host/frontend/tests/all/hostile`), under the limits that users have. A frontend may compute
//! for a second, so what counts for those that do nothing else is the time beyond that second; all others are to be stopped at once.
#[expect(dead_code, reason = "made for the tests, which make guests of other kinds, too")]
#[path = "../../../../host/frontend/tests/all/guests.rs"]
mod guests;
#[path = "../../../../host/frontend/tests/all/hostile/table.rs"]
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use self::table::{BODIES, MEMORY, MODULES, REALLOC};
use super::{Bench, Samples};
use crate::report::{Row, Unit};

const PRELUDE: &str = include_str!("../../../../host/frontend/tests/all/hostile/prelude.wat");
/// What a frontend may compute, in seconds, and the words by which one that did is known.
const BUDGET: (f64, &str) = (1.0, "it computed for longer than 1s");
/// A row for each of these, by their names in the table; the others share one.
const SHOWN: [(&str, &str); 9] = [
    ("loops", "loops"),
    ("hoards memory", "allocates without end"),
    ("hoards what it reads", "keeps all that it reads"),
    ("logs for ever", "logs without end"),
    ("grows a graph without end", "makes vertices without end"),
    ("recurses", "recurses without end"),
    ("calls the host for ever", "calls the host without end"),
    ("reads for ever", "reads a file without end, which is 2 GiB"),
    ("resolves for ever", "resolves images without end"),
];
const LIMITS: &str =
    "rhost: its own start, the frontend's, a look at the clock every 5 ms, and writing the recording of the run";

/// The name and component of each that is to be stopped.
fn all() -> Vec<(&'static str, Vec<u8>)> {
    let build = |body: &str| {
        format!(
            r#"(table $t 8 funcref) (elem declare func $build $reset)
            (func $build (export "build") (param $self i32) (result i32) (local $i i32) (local $h i32) {body} (unreachable))"#
        )
    };
    let ask = build("(call $raw_options (local.get $self) (i32.const 32))");
    let bodies = BODIES.iter().map(|(name, body, told)| (*name, format!("{MEMORY} {REALLOC} {}", build(body)), *told));
    let modules = MODULES.iter().map(|(name, module, told)| {
        let module = module.replace("MEMORY", MEMORY).replace("REALLOC", REALLOC);
        (*name, module.replace("BUILD", &build("")).replace("ASK", &ask), *told)
    });
    let guests = bodies.chain(modules).filter(|(.., told)| !told.is_empty());
    guests.map(|(name, module, _)| (name, guests::guest(&format!("{PRELUDE}\n{module}")))).collect()
}

/// One build with the component, which must fail: seconds from its start to its end, and whether the frontend had computed for its whole budget.
fn stopped(bench: &Bench, component: &Path, context: &Path, root: &Path) -> Result<(f64, bool)> {
    let mut command = Command::new(&bench.binary);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &bench.directory);
    command.arg("--root").arg(root).args(["build", "--progress", "plain", "-o", "type=cacheonly", "--frontend"]);
    command.arg(component).arg("-f").arg(context.join("build")).arg(context).stdin(Stdio::null());
    let begin = Instant::now();
    let ended = command.output().with_context(|| format!("starting {}", bench.binary.display()))?;
    let seconds = begin.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&ended.stderr);
    ensure!(matches!(ended.status.code(), Some(1..=8)), "{}: {}\n{told}", component.display(), ended.status);
    Ok((seconds, told.contains(BUDGET.1)))
}

/// Of each the time beyond its budget.
pub fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let (context, root) = (bench.directory.join("contexts/hostile"), bench.directory.join("hostile"));
    std::fs::create_dir_all(&context)?;
    std::fs::write(context.join("build"), "anything\n")?;
    std::fs::write(context.join("big"), vec![b'x'; 4 << 20])?;
    let component: PathBuf = bench.directory.join("hostile.wasm");
    let (mut rows, mut others, mut slowest) = (Vec::new(), Samples::default(), (0.0, ""));
    for (name, bytes) in all() {
        std::fs::write(&component, bytes)?;
        // It is compiled.
        stopped(bench, &component, &context, &root)?;
        let shown = SHOWN.iter().find(|(known, _)| *known == name);
        let mut samples = Samples::default();
        let mut computed = false;
        for _ in 0..if shown.is_some() { bench.repeats } else { 1 } {
            let (seconds, whole) = stopped(bench, &component, &context, &root)?;
            computed |= whole;
            samples.rhost.push(if whole { seconds - BUDGET.0 } else { seconds });
        }
        match shown {
            Some((_, what)) => {
                let budget = if computed { ", beyond its second" } else { "" };
                let what = format!("hostile frontend: {what}; to the end of rhost{budget}");
                // To read is neither to compute nor to allocate, and has a limit of its own.
                let wanted = if name == "reads for ever" { "-" } else { "1 s" };
                rows.push(samples.row(what, Unit::Time, wanted, LIMITS));
            }
            None => {
                let [seconds] = samples.rhost[..] else { continue };
                if seconds > slowest.0 {
                    slowest = (seconds, name);
                }
                others.rhost.push(seconds);
            }
        }
    }
    std::fs::remove_dir_all(&root)?;
    eprintln!("bench: the slowest of the others `{}`, {:.0} ms", slowest.1, slowest.0 * 1e3);
    let most = Samples { rhost: vec![slowest.0], buildkit: Vec::new() };
    let count = others.rhost.len();
    rows.push(most.row(format!("{count} more hostile frontends: the slowest of them"), Unit::Time, "1 s", LIMITS));
    Ok(rows)
}
