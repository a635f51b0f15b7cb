//! The `rhost` binary: the only place that reads the environment, the home directory and the terminal.
mod arguments;
mod commands;
mod environment;
mod explain;
mod failure;
mod manual;
mod progress;
mod project;
mod trace;

use std::process::ExitCode;

/// How long the end waits for killed steps to be unmounted.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(20);

/// First argument of the child that compiles guests.
const COMPILE_GUEST: &str = "__compile-guest";
/// First argument by which the build asks whether the stock frontend's code is inside, and makes it: `COMPONENT CODE` are files.
const EMBEDDED_CODE: &str = "__embedded-code";

fn main() -> ExitCode {
    // A step's supervisor is this binary again; it must not get any further.
    rhost_exec::init_main();
    match std::env::args_os().nth(1) {
        Some(argument) if argument == COMPILE_GUEST => rhost_frontend::compile_main(),
        Some(argument) if argument == EMBEDDED_CODE => return embedded_code(),
        _ => {}
    }
    let arguments = arguments::Arguments::of_process();
    if let Some(answer) = commands::outside(&arguments) {
        return ended(answer);
    }
    // As long as there is one thread.
    let namespace = match rhost_exec::enter_user_namespace() {
        Ok(namespace) => namespace,
        Err(error) => {
            eprintln!("ERROR: {error}");
            return ExitCode::from(6);
        }
    };
    if let Err(error) = trace::begin() {
        eprintln!("ERROR: {error}");
        return ExitCode::from(2);
    }
    rhost_exec::share_arenas();
    let threads = rhost_engine::processors();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ERROR: cannot start threads: {error}");
            return ExitCode::from(6);
        }
    };
    let answer = runtime.block_on(async {
        tokio::select! {
            answer = commands::run(arguments, namespace) => answer,
            signal = interrupted() => Err(failure::interrupted(signal)),
        }
    });
    if matches!(&answer, Err(error) if matches!(error.kind, rhost_engine::Kind::Interrupted(_))) {
        // Who asks a second time does not want to wait.
        rhost_exec::stop_signals_end_us();
    }
    // Steps that were dropped are killed by their supervisors; threads that block in the kernel are not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if !rhost_exec::settle(SETTLE) {
        eprintln!("WARNING: a step is still being cleared away after {} s", SETTLE.as_secs());
    }
    ended(answer)
}

fn ended(answer: Result<u8, rhost_engine::BuildError>) -> ExitCode {
    match answer {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::print(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn embedded_code() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(2).collect();
    let [component, code] = paths.as_slice() else {
        return if environment::STOCK_FRONTEND.has_code() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let made = std::fs::read(component).map_err(|error| error.to_string()).and_then(|component| {
        let made = rhost_frontend::precompile(&component).map_err(|error| error.to_string())?;
        std::fs::write(code, made).map_err(|error| error.to_string())
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR: {}: {error}", component.display());
            ExitCode::FAILURE
        }
    }
}

/// Name and number of the signal that asked to stop.
async fn interrupted() -> (&'static str, u8) {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind: SignalKind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => ("SIGINT", 2),
        () = wait(SignalKind::terminate()) => ("SIGTERM", 15),
        () = wait(SignalKind::hangup()) => ("SIGHUP", 1),
    }
}
