//! Frontends: WASM components in a sandbox. See ARCHITECTURE.md.
mod v0_1;
