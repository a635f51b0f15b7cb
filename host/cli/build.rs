//! Puts the stock frontend's component where `include_bytes!` finds it, and the machine code that `cargo xtask build` made of it, if it did; hands the
//! linker the order of functions, if that job made one.
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-env-changed=RHOST_STOCK_FRONTEND");
    println!("cargo::rerun-if-env-changed=RHOST_FUNCTION_ORDER");
    if let Some(order) = std::env::var_os("RHOST_FUNCTION_ORDER").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", order.display());
        println!("cargo::rustc-link-arg-bin=rhost=-Wl,--symbol-ordering-file={}", order.display());
        // Of functions that the code has no more.
        println!("cargo::rustc-link-arg-bin=rhost=-Wl,--no-warn-symbol-ordering");
    }
    // Asked now: a build directory may outlive the checkout that this program was compiled in.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let checkout = Path::new(&here).join("../..");
    let component = std::env::var_os("RHOST_STOCK_FRONTEND")
        .map_or_else(|| checkout.join("target/guests/dockerfile.wasm"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", component.display());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let bytes = std::fs::read(&component).unwrap_or_else(|error| {
        println!(
            "cargo::error=the stock frontend is not built: {}: {error}. Run `cargo xtask guests` first, or build with `cargo xtask build`",
            component.display()
        );
        std::process::exit(1);
    });
    let path = component.with_extension("code");
    // One that is not there cannot be watched: cargo would build anew every time. `xtask` writes the component again before it.
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let mut code = std::fs::read(&path).unwrap_or_default();
    if !code.ends_with(&Sha256::digest(&bytes)) {
        // Of another component: compiled at its first use.
        code.clear();
    }
    for (name, bytes) in [("dockerfile.wasm", bytes), ("dockerfile.code", code)] {
        std::fs::write(out.join(name), bytes).expect("cargo's own directory can be written");
    }
}
