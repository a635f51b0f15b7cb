//! LLB against BuildKit's own output (`golden/`), against hostile bytes, and against its own laws.
mod builder;
mod cache_keys;
mod golden;
mod hostile;
mod text;
