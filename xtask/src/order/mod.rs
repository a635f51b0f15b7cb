//! The order of functions in the release binary. A build runs a seventh of them, which the linker would scatter over all pages: each page touched is a
//! fault at start, and memory. So those that builds run come first, in the order in which a build that finds everything cached runs them.
//! `host/cli/function-order.txt` holds which (written by `cargo xtask order`, from watched builds); every release build is linked twice, as symbols
//! are known only after the first time, and takes what names it has of that list: a list that is behind the code costs speed, nothing else.
mod trace;
mod training;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use sha2::{Digest as _, Sha256};

use crate::{jobs, setup, tidy};

/// Symbols whose names say which instance of a generic function they are; the ordinary scheme leaves that out.
pub const MANGLING: &str = "build.rustflags=[\"-Csymbol-mangling-version=v0\"]";
/// What `host/cli/build.rs` reads: the file for the linker.
pub const VARIABLE: &str = "RHOST_FUNCTION_ORDER";

/// A function of a program.
struct Function {
    /// As the linker knows it.
    symbol: String,
    /// Where it begins, by the program's headers.
    address: u64,
}

/// 32 bits of SHA-256 of a function's name as people read it: the same for every compiler and machine.
fn key(symbol: &str) -> u32 {
    let digest = Sha256::digest(format!("{:#}", rustc_demangle::demangle(symbol)));
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn list() -> PathBuf {
    tidy::root().join("host/cli/function-order.txt")
}

/// Functions of an ELF file, and whether LLVM's linker made it.
fn functions(binary: &Path) -> Result<(Vec<Function>, bool)> {
    let bytes = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", binary.display()))?;
    let comment = file.section_by_name(".comment").and_then(|section| section.data().ok()).unwrap_or_default();
    let functions = file
        .symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| Some(Function { symbol: symbol.name().ok()?.to_owned(), address: symbol.address() }))
        .collect();
    Ok((functions, comment.windows(11).any(|window| window == b"Linker: LLD")))
}

/// Writes the linker's file `to` for a program that was linked already. Says whether it has changed, so that linking again is of use.
///
/// # Errors
/// The program or the list cannot be read, or the file cannot be written.
pub fn write(binary: &Path, to: &Path) -> Result<bool> {
    let (functions, lld) = functions(binary)?;
    if !lld {
        eprintln!("xtask: functions are not put in order: the linker is not LLVM's");
        return Ok(false);
    }
    let list = list();
    let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let mut place = HashMap::new();
    for word in text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace) {
        let key = u32::from_str_radix(word, 16)
            .with_context(|| format!("{}: `{word}` is no hexadecimal number", list.display()))?;
        let next = place.len();
        place.entry(key).or_insert(next);
    }
    let mut known: Vec<(usize, String)> = functions
        .into_iter()
        .filter_map(|function| Some((*place.get(&key(&function.symbol))?, function.symbol)))
        .collect();
    known.sort_unstable();
    known.dedup();
    let order: String = known.into_iter().map(|(_, symbol)| symbol + "\n").collect();
    if fs::read_to_string(to).is_ok_and(|old| old == order) {
        return Ok(false);
    }
    fs::write(to, order).with_context(|| format!("writing {}", to.display()))?;
    Ok(true)
}

/// Watches builds of the release binary and writes the list anew. For x86-64, as root: what builds of a plain user run besides is little.
///
/// # Errors
/// Not this machine; or a build fails.
pub fn learn() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" || !rhost_kit::is_root() {
        bail!("functions are watched on x86-64, as root");
    }
    setup::install(setup::DEMO_PACKAGES)?;
    let binary = jobs::build()?;
    let (functions, _) = functions(&binary)?;
    let names: HashMap<u64, &str> =
        functions.iter().map(|function| (function.address, function.symbol.as_str())).collect();
    let mut trace = trace::Trace::new(&binary, names.keys().copied().collect())?;
    training::run(&binary, &mut trace)?;
    let ran = trace.ran();
    let mut text = "# Functions of the release binary in the order in which builds come to run them: 32 bits of SHA-256 of each one's name.\n\
                    # Written by `cargo xtask order`."
        .to_owned();
    for (at, address) in ran.iter().enumerate() {
        text.push(if at % 16 == 0 { '\n' } else { ' ' });
        text.push_str(&format!("{:08x}", key(names[address])));
    }
    text.push('\n');
    fs::write(list(), text)?;
    eprintln!("xtask: {} of {} functions ran", ran.len(), functions.len());
    // The next build is linked by it.
    jobs::build().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_for_every_compiler() {
        // The same function of crates with other disambiguators, and of another type.
        let one = "_RINvNtCs9ltgdHTiPiY_5order4list5itemsxE";
        let other = "_RINvNtCsa_5order4list5itemsxE";
        assert_eq!(format!("{:#}", rustc_demangle::demangle(one)), "order::list::items::<i64>");
        assert_eq!(key(one), key(other));
        assert_ne!(key(one), key("_RINvNtCsa_5order4list5itemslE"));
    }

    #[test]
    fn functions_that_run_are_told_in_their_order_and_no_others() -> Result<()> {
        if std::env::consts::ARCH != "x86_64" {
            eprintln!("SKIP: functions are watched on x86-64");
            return Ok(());
        }
        let directory = tempfile::tempdir()?;
        let (source, program) = (directory.path().join("some.c"), directory.path().join("some"));
        fs::write(
            &source,
            "#include <sys/wait.h>\n#include <unistd.h>\n\
             __attribute__((noinline)) int never(void) { return write(1, \"n\", 1) != 1; }\n\
             __attribute__((noinline)) int child(void) { return write(1, \"c\", 1) != 1; }\n\
             __attribute__((noinline)) int parent(void) { return write(1, \"p\", 1) != 1; }\n\
             int main(int count, char **arguments) {\n\
             if (count > 1) return child();\n\
             if (!fork()) { execl(arguments[0], arguments[0], \"child\", 0); return 1; }\n\
             int status; wait(&status); if (status || parent()) return 1; return count > 5 ? never() : 0; }\n",
        )?;
        let made = std::process::Command::new("cc").arg(&source).arg("-O1").arg("-o").arg(&program).status()?;
        assert!(made.success());
        let (functions, _) = functions(&program)?;
        let names: HashMap<u64, &str> = functions.iter().map(|one| (one.address, one.symbol.as_str())).collect();
        let mut trace = trace::Trace::new(&program, names.keys().copied().collect())?;
        let mut command = std::process::Command::new(&program);
        for _ in 0..2 {
            trace.run(&command)?;
        }
        let ran: Vec<&str> = trace.ran().iter().map(|at| names[at]).collect();
        let ours: Vec<&str> =
            ran.into_iter().filter(|name| ["main", "child", "parent", "never"].contains(name)).collect();
        assert_eq!(ours, ["main", "child", "parent"]);
        // One that fails says so.
        let failed = trace.run(command.args(["1", "2", "3"]).env("X", "y"));
        assert!(failed.is_ok(), "{failed:?}");
        Ok(())
    }
}
