//! The commands: from typed flags to requests, from answers to exit codes.
mod build;
mod cache;
mod call;
mod contexts;
mod debug;
mod disk;
mod emulation;
mod fetch;
mod frontend;
mod image;
mod lend;
mod lock;
mod locking;
mod outputs;
mod request;
mod vendor;

use rhost_engine::{BuildError, Engine};
use rhost_exec::UserNamespace;

use crate::arguments::{Arguments, Command, DebugCommand, FrontendCommand};
use crate::environment;

/// Runs a command that wants the user's own tools and nothing of ours: no store, no namespace, no threads. `None`: it is none of those.
pub fn outside(arguments: &Arguments) -> Option<Result<u8, BuildError>> {
    let Command::Frontend { command } = &arguments.command else { return None };
    match command {
        FrontendCommand::New(new) => Some(frontend::project::new(new).map(|()| 0)),
        FrontendCommand::Build(build) => Some(frontend::project::build(build).map(|()| 0)),
        _ => None,
    }
}

/// Runs one command. Gives the exit code.
///
/// # Errors
/// What went wrong, with kind, place and hints.
pub async fn run(arguments: Arguments, namespace: UserNamespace) -> Result<u8, BuildError> {
    if let Command::Emulation { command } = &arguments.command {
        // Nothing of the store is needed.
        return emulation::run(command, &environment::settings(&arguments)?, namespace).map(|()| 0);
    }
    let engine = Engine::open(environment::options(&arguments, namespace)?)?;
    let done = match arguments.command {
        Command::Emulation { .. } => Ok(()),
        Command::Frontend { command: FrontendCommand::New(_) | FrontendCommand::Build(_) } => Ok(()),
        Command::Build(build) => return build::run(&engine, *build).await,
        Command::Lock(lock) => lock::run(&engine, *lock).await,
        Command::Fetch(fetch) => fetch::run(&engine, *fetch).await,
        Command::Vendor(vendor) => vendor::run(&engine, *vendor).await,
        Command::Images(images) => image::list(&engine, &images),
        Command::Save(save) => image::save(&engine, &save),
        Command::Tag(tag) => image::tag(&engine, &tag),
        Command::Rmi(remove) => image::remove(&engine, &remove),
        Command::Pull(pull) => image::pull(&engine, &pull).await,
        Command::Push(push) => image::push(&engine, &push).await,
        Command::Du(du) => disk::usage(&engine, &du),
        Command::Cache { command } => cache::run(&engine, &command).await,
        Command::Prune(prune) => disk::prune(&engine, &prune),
        Command::Frontend { command: FrontendCommand::Inspect(inspect) } => frontend::inspect(&engine, &inspect).await,
        Command::Frontend { command: FrontendCommand::Test(test) } => return frontend::test(&engine, &test).await,
        Command::Frontend { command: FrontendCommand::Conformance(checks) } => {
            return frontend::conformance(&engine, &checks).await;
        }
        Command::Frontend { command: FrontendCommand::Replay(replay) } => {
            return frontend::replay(&engine, &replay).await;
        }
        Command::Frontend { command: FrontendCommand::Push(push) } => frontend::push(&engine, &push).await,
        Command::Debug { command: DebugCommand::DumpLlb(dump) } => debug::dump_llb(&engine, dump).await,
    };
    done.map(|()| 0)
}
