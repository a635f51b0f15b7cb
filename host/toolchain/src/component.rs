//! From a core module to a component, and the check that it imports `rhost:*` only.
use std::path::Path;

use wasmparser::{Parser, Payload};

use crate::error::{Result, ToolchainError};

/// The custom section that tells the encoder which world a module is for, as bindings for Rust bring it along.
const WORLD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/world.bin"));
/// See `go_adapter.wat`.
const GO_ADAPTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/go_adapter.wasm"));

/// Makes a component of the core module at `core`, which brings its world along. Checked.
///
/// # Errors
/// It is no module of the world, or imports more than a frontend gets.
pub fn encode(core: &Path) -> Result<Vec<u8>> {
    let module = std::fs::read(core).map_err(ToolchainError::io(core))?;
    let encoded = wit_component::ComponentEncoder::default().validate(true).module(&module).and_then(|e| e.encode());
    checked(core, encoded.map_err(|error| format!("{error:#}")))
}

/// As [`encode`], of a Go program for `wasip1`: the world is added, and WASI is answered by an adapter inside the component.
pub(crate) fn encode_go(core: &Path) -> Result<Vec<u8>> {
    let mut module = std::fs::read(core).map_err(ToolchainError::io(core))?;
    custom_section("component-type:frontend", WORLD, &mut module);
    let encode = || {
        wit_component::ComponentEncoder::default()
            .validate(true)
            .module(&module)?
            .adapter("wasi_snapshot_preview1", GO_ADAPTER)?
            .encode()
    };
    checked(core, encode().map_err(|error| format!("{error:#}")))
}

/// Refuses bytes that are no component, or import more than a frontend gets.
pub(crate) fn check(path: &Path, component: &[u8]) -> Result<()> {
    let wrong = |reason: String| ToolchainError::Component { path: path.into(), reason };
    if !Parser::is_component(component) {
        return Err(wrong("it is no component".into()));
    }
    let foreign = foreign_imports(component).map_err(|error| wrong(error.to_string()))?;
    if foreign.is_empty() { Ok(()) } else { Err(ToolchainError::ForeignImports(foreign)) }
}

fn checked(core: &Path, encoded: std::result::Result<Vec<u8>, String>) -> Result<Vec<u8>> {
    let component = encoded.map_err(|reason| ToolchainError::Component { path: core.into(), reason })?;
    check(core, &component)?;
    Ok(component)
}

/// Adds a custom section at the end of a module or component.
pub(crate) fn custom_section(name: &str, data: &[u8], module: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(name.len() + data.len() + 5);
    leb128(name.len(), &mut body);
    body.extend(name.as_bytes());
    body.extend(data);
    module.push(0);
    leb128(body.len(), module);
    module.extend(body);
}

fn leb128(mut number: usize, into: &mut Vec<u8>) {
    while number > 0x7f {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Names of what the component imports beside `rhost:*` interfaces and types made of them.
fn foreign_imports(component: &[u8]) -> std::result::Result<Vec<String>, wasmparser::BinaryReaderError> {
    let mut depth = 0;
    let mut foreign = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import?.name.name;
                    // A name without a colon is a type which the world takes out of an interface.
                    if name.contains(':') && !name.starts_with("rhost:") {
                        foreign.push(name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(foreign)
}

#[cfg(test)]
mod tests {
    use super::foreign_imports;

    #[test]
    fn names_what_is_foreign() {
        // (component (import "wasi:cli/exit@0.2.0" (instance)) (import "rhost:frontend/llb@0.1.0" (instance))), by hand:
        // type section with an empty instance type, import section with two instances of it.
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend([7, 3, 1, 0x42, 0]);
        let names = ["wasi:cli/exit@0.2.0", "rhost:frontend/llb@0.1.0"];
        let mut section = vec![names.len() as u8];
        for name in names {
            section.extend([0, name.len() as u8]);
            section.extend(name.as_bytes());
            section.extend([5, 0]);
        }
        bytes.extend([10, section.len() as u8]);
        bytes.extend(section);
        assert_eq!(foreign_imports(&bytes).unwrap(), ["wasi:cli/exit@0.2.0"]);
    }
}
