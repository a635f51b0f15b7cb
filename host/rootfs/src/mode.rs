//! sig
use crate::Result;

/// A parsed mode expression, octal or symbolic as in chmod(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange {}

impl ModeChange {
    /// Parses.
    pub fn parse(text: &str) -> Result<Self> {
        let _ = text;
        unimplemented!()
    }
    /// The mode that `mode` (at most 0o7777) becomes; `is_dir` matters to `X`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let _ = (mode, is_dir);
        unimplemented!()
    }
}
