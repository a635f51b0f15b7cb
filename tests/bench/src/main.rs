//! `cargo xtask bench`: rhost and a real BuildKit side by side, in one run, on a tmpfs.
//!
//! Each case is timed from the start of the client to its end, as a user waits for it, in turns (rhost, BuildKit, rhost, …), so that
//! whatever else the machine does falls on both. Every build is checked to have done the work: exit code, image, what was cached.
//! This is a program and no test: nothing fails because something was slow.
mod builder;
mod buildkit;
mod cases;
mod content;
mod machine;
mod process;
mod report;
mod rhost;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cases::Bench;

const HELP: &str = "\
rhost-bench --rhost BINARY --buildkit DIRECTORY [--repeats N] [--write FILE] [NAME…]

  NAME         cases whose name contains it; all without one
  --repeats N  timed builds of each kind (default 5)
  --write FILE also writes the table there, as Markdown; rows of cases that are not run stay as they were
  --list       names the cases
";

fn main() -> Result<()> {
    let (mut rhost, mut buildkit, mut write, mut repeats, mut filters) = (None, None, None, 5, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--rhost" => rhost = Some(PathBuf::from(value()?)),
            "--buildkit" => buildkit = Some(PathBuf::from(value()?)),
            "--write" => write = Some(PathBuf::from(value()?)),
            "--repeats" => repeats = value()?.parse().context("--repeats")?,
            "--list" => {
                cases::ALL.iter().for_each(|case| println!("{:<12} {}", case.name, case.about));
                return Ok(());
            }
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            name if !name.starts_with('-') => filters.push(name.to_owned()),
            other => bail!("no option `{other}`\n\n{HELP}"),
        }
    }
    let wanted: Vec<_> = cases::ALL
        .iter()
        .filter(|case| filters.is_empty() || filters.iter().any(|name| case.name.contains(name.as_str())))
        .collect();
    if wanted.is_empty() {
        bail!("no case is called like that; --list names them");
    }
    let machine = machine::look()?;
    // Dropped last.
    let (directory, _keeper) = machine::tmpfs()?;
    let mut bench = Bench::new(
        &directory,
        rhost.context("--rhost BINARY is wanted")?,
        buildkit.context("--buildkit DIRECTORY is wanted")?,
        repeats,
    )?;
    let mut rows = Vec::new();
    for case in wanted {
        eprintln!("bench: {} - {}", case.name, case.about);
        let found = (case.run)(&mut bench).with_context(|| format!("case {}", case.name))?;
        print!("{}", report::text(&found));
        rows.extend(found);
        // After each case: what was measured is not lost with a later one that fails.
        if let Some(path) = &write {
            let old = std::fs::read_to_string(path).unwrap_or_default();
            std::fs::write(path, report::markdown(&machine, &rows, &old))
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}
