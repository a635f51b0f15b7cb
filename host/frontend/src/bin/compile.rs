//! The compiling child, for this crate's tests.
fn main() {
    rhost_frontend::compile_main()
}
