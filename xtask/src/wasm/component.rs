//! From a core module to a component, and the check that it imports `rhost:*` only.
use std::path::Path;

use anyhow::{Context, Result, ensure};
use wasmparser::{Parser, Payload};

/// Makes a component of the core module at `core`, checks it and writes it to `out`, whole or not at all.
pub fn encode(core: &Path, out: &Path) -> Result<()> {
    let module = std::fs::read(core).with_context(|| format!("reading {}", core.display()))?;
    let component = wit_component::ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let foreign = foreign_imports(&component)?;
    ensure!(foreign.is_empty(), "a frontend may import rhost:* only, this one wants {}", foreign.join(", "));
    let part = out.with_extension("part");
    std::fs::write(&part, &component)?;
    std::fs::rename(&part, out)?;
    eprintln!("xtask: {} ({} bytes)", out.display(), component.len());
    Ok(())
}

/// Names of what the component imports beside `rhost:*` interfaces and types made of them.
fn foreign_imports(component: &[u8]) -> Result<Vec<String>> {
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
