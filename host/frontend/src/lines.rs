//! Where in its source a frontend fell: frames of a backtrace to functions, files and lines, for components that hold DWARF.
//!
//! DWARF from anywhere is read by nested and recursive code, so it is read where a component is compiled: in the limited child. A child that does not
//! answer costs the lines and nothing else. Machine code and its start know nothing of this; a component without line tables is not even kept.
use std::sync::Arc;

use addr2line::Context;
use addr2line::gimli::{EndianSlice, LittleEndian, SectionId};
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

use crate::compile::{CompileLimits, Compiler};

/// Bounds on the child, below those of compilation: the person waits for an error.
const MEMORY: u64 = 1 << 30;
const SECONDS: u64 = 5;
/// Characters of a name or path that are shown.
const LONGEST: usize = 200;

/// A component with line tables, and who reads them.
pub(crate) struct Lines {
    compiler: Compiler,
    component: Box<[u8]>,
}

/// What stands at one offset, innermost first: a function and what was inlined into it.
type Found = Vec<At>;

#[derive(Serialize, Deserialize)]
struct At {
    function: Option<String>,
    /// `src/lib.rs:12`
    place: Option<String>,
}

impl Lines {
    /// `None` for a component without them.
    pub fn of(component: &[u8], compiler: &Compiler) -> Option<Arc<Self>> {
        let has = sections(component).iter().any(|module| module.debug.iter().any(|(name, _)| *name == ".debug_line"));
        has.then(|| Arc::new(Self { compiler: compiler.clone(), component: component.into() }))
    }

    /// Adds functions that were inlined, files and lines to the frames, each at an offset in the component.
    pub async fn add(&self, frames: &mut Vec<String>, offsets: &[Option<usize>]) {
        let wanted: Vec<u64> = offsets.iter().map(|offset| offset.map_or(0, |offset| offset as u64)).collect();
        let mut compiler = self.compiler.clone();
        compiler.limits = CompileLimits { memory: MEMORY, seconds: SECONDS, ..compiler.limits };
        let answer = match compiler.child(&wanted, &self.component).await {
            Ok(output) if output.status.success() => output.stdout,
            _ => return,
        };
        let Ok(found) = serde_json::from_slice::<Vec<Found>>(&answer) else { return };
        if found.len() != frames.len() {
            return;
        }
        *frames = std::mem::take(frames).into_iter().zip(found).flat_map(|(name, found)| shown(name, found)).collect();
    }
}

/// The frame `name` with what was found at it.
fn shown(name: String, found: Found) -> Vec<String> {
    let last = found.len().saturating_sub(1);
    let line = |(index, at): (usize, At)| {
        // The outermost is the function itself, whose name the module has in its own words.
        let function = at.function.filter(|_| index < last).map_or_else(|| name.clone(), |function| clean(&function));
        at.place.map_or(function.clone(), |place| format!("{function} at {}", clean(&place)))
    };
    if found.is_empty() { vec![name] } else { found.into_iter().enumerate().map(line).collect() }
}

/// As it may stand in a line of a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

/// A core module inside a component.
#[derive(Default)]
struct Module<'c> {
    /// Where its code begins and ends in the component.
    code: std::ops::Range<usize>,
    debug: Vec<(&'c str, &'c [u8])>,
}

/// The modules of a component with their debugging sections; of what is no component as far as it can be read.
fn sections(component: &[u8]) -> Vec<Module<'_>> {
    let mut modules = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::Version { encoding: wasmparser::Encoding::Module, .. }) => modules.push(Module::default()),
            Ok(Payload::CodeSectionStart { range, .. }) => {
                if let Some(module) = modules.last_mut() {
                    module.code = range;
                }
            }
            Ok(Payload::CustomSection(section)) if section.name().starts_with(".debug_") => {
                if let Some(module) = modules.last_mut() {
                    module.debug.push((section.name(), section.data()));
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    modules
}

/// What the child does: answers for each offset in the component, as JSON.
pub(crate) fn read(component: &[u8], offsets: &[u64]) -> Vec<u8> {
    let modules = sections(component);
    let contexts: Vec<_> = modules.iter().map(context).collect();
    let at = |offset: &u64| {
        let offset = usize::try_from(*offset).ok()?;
        let index = modules.iter().position(|module| module.code.contains(&offset))?;
        let (module, context) = (modules.get(index)?, contexts.get(index)?.as_ref()?);
        let mut found = Found::new();
        // DWARF in WebAssembly counts from the begin of the code section.
        let mut frames = context.find_frames((offset - module.code.start) as u64).skip_all_loads().ok()?;
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let place = frame.location.and_then(|place| {
                Some(place.line.map_or(place.file?.to_owned(), |line| format!("{}:{line}", place.file.unwrap_or("?"))))
            });
            found.push(At { function: function.map(|name| name.into_owned()), place });
        }
        Some(found)
    };
    let found: Vec<Found> = offsets.iter().map(|offset| at(offset).unwrap_or_default()).collect();
    serde_json::to_vec(&found).unwrap_or_default()
}

fn context<'c>(module: &Module<'c>) -> Option<Context<EndianSlice<'c, LittleEndian>>> {
    let section = |id: SectionId| {
        let found = module.debug.iter().find(|(name, _)| *name == id.name()).map_or(&[][..], |(_, data)| data);
        Ok::<_, addr2line::gimli::Error>(EndianSlice::new(found, LittleEndian))
    };
    Context::from_dwarf(addr2line::gimli::Dwarf::load(section).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_has_no_lines() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0\xff\xff\xff", b"noise"] {
            assert!(sections(bytes).iter().all(|module| module.debug.is_empty()));
            assert_eq!(read(bytes, &[7]), b"[[]]");
        }
    }

    #[test]
    fn names_from_outside_do_not_move_the_cursor() {
        let at = |function: &str| At { function: Some(function.into()), place: Some("a\x1b[2J.rs:1".into()) };
        assert_eq!(shown("outer".into(), vec![at("in\nner"), at("_R")]), ["inner at a[2J.rs:1", "outer at a[2J.rs:1"]);
        assert_eq!(shown("outer".into(), vec![]), ["outer"]);
    }
}
