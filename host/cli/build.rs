//! Puts the stock frontend's component where `include_bytes!` finds it.
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=RHOST_STOCK_FRONTEND");
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let component = std::env::var_os("RHOST_STOCK_FRONTEND")
        .map_or_else(|| checkout.join("target/guests/dockerfile.wasm"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", component.display());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("dockerfile.wasm");
    if let Err(error) = std::fs::copy(&component, &out) {
        println!(
            "cargo::error=the stock frontend is not built: {}: {error}. Run `cargo xtask guests` first, or build with `cargo xtask build`",
            component.display()
        );
        std::process::exit(1);
    }
}
