//! The compiling child of the tests; with `IN OUT`, what the build calls to make the code that goes into the product.
use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [component, code] = paths.as_slice() else { rhost_frontend::compile_main() };
    let made = std::fs::read(component).map_err(|error| error.to_string()).and_then(|component| {
        let made = rhost_frontend::precompile(&component).map_err(|error| error.to_string())?;
        std::fs::write(code, made).map_err(|error| error.to_string())
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", component.display());
            ExitCode::FAILURE
        }
    }
}
