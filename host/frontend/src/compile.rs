//! From a component to machine code, and the private cache of it.
//!
//! The compiler is large and eats hostile input, so it runs in a child process with limits on memory and time. What it answers is
//! stored under (digest of the component, everything that the code depends on) in a directory that only its owner can write, with
//! a checksum: machine code has no sandbox before it runs, so it is loaded from nowhere else. One exception: a frontend that is part of
//! this program may bring code that the program's own build made ([`Embedded`]); who could alter that could alter the program.
use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::ptr::NonNull;
use std::time::Duration;

use rhost_llb::Digest;
use tokio::io::AsyncWriteExt;
use wasmtime::component::Component;
use wasmtime::{OptLevel, RegallocAlgorithm};

use crate::engine::{Engine, config};
use crate::error::{Identity, LoadError};

/// Where compiled frontends are kept and how they are made.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// A directory for this alone, made when absent. Must belong to us and be writable by nobody else.
    pub cache: PathBuf,
    /// A command that calls [`compile_main`] and nothing else: this program with arguments that make it do so.
    pub command: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Bounds on it.
    pub limits: CompileLimits,
}

/// Bounds on the compiling child.
#[derive(Debug, Clone, Copy)]
pub struct CompileLimits {
    /// Bytes of the component.
    pub component: usize,
    /// Bytes of address space.
    pub memory: u64,
    /// Seconds of processor time.
    pub seconds: u64,
}

impl Default for CompileLimits {
    /// 64 MiB, 3 GiB (a JavaScript guest takes 560 MB), two minutes.
    fn default() -> Self {
        Self { component: 64 << 20, memory: 3 << 30, seconds: 120 }
    }
}

/// How much longer than its processor time a compilation may take: on a machine that does much else.
const BUSY: u64 = 5;

/// A frontend that is part of this program's own image (`include_bytes!`), so that nothing is compiled at its first use.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// The component.
    pub component: &'static [u8],
    /// What [`precompile`] made of it when the program was built; empty where the build had none. Never bytes from anywhere else. Where it begins with a
    /// page it is run in its place, else as a copy.
    pub code: &'static [u8],
}

impl Embedded {
    /// The digest of the component and its code, where there is code.
    fn parts(&self) -> Option<(Digest, &'static [u8])> {
        let (code, raw) = self.code.split_last_chunk()?;
        Some((Digest::from_raw(*raw), code))
    }

    /// Whether there is code that this program can run.
    pub fn has_code(&self) -> bool {
        Engine::new(crate::Allocation::OnDemand).is_ok_and(|engine| self.load(&engine).is_some())
    }

    /// What messages call it. The digest is not computed again where the build has written it down.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let digest = self.parts().map_or_else(|| Digest::of(self.component), |(digest, _)| digest);
        Identity { name: name.to_owned(), digest }
    }

    /// The code, if this wasmtime and this processor take it.
    pub(crate) fn load(&self, engine: &Engine) -> Option<Component> {
        let (_, code) = self.parts()?;
        let in_place = || {
            // SAFETY: as in `deserialize`; it is part of this program's image, which is there to its end and which nobody writes to.
            unsafe { Component::deserialize_raw(engine.wasmtime(), NonNull::from(code)) }
                .map_err(|error| format!("{error:#}"))
        };
        let loaded = match CodePages::suit(code) {
            true => engine.once(code, in_place),
            false => deserialize(engine, code),
        };
        loaded.inspect_err(|reason| tracing::debug!(reason, "the embedded code does not fit; compiling")).ok()
    }
}

/// Makes code executable in its place: also that of [`Embedded`], which is part of this program's image. Where instruction caches want to be told of new
/// code, wasmtime does it all itself, and embedded code is copied.
pub(crate) struct CodePages;

impl CodePages {
    /// Whether there is need of it on this machine.
    pub(crate) const WORKS: bool = cfg!(target_arch = "x86_64");

    fn suit(code: &[u8]) -> bool {
        Self::WORKS && code.as_ptr().addr().is_multiple_of(rustix::param::page_size())
    }
}

impl wasmtime::CustomCodeMemory for CodePages {
    fn required_alignment(&self) -> usize {
        rustix::param::page_size()
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        use rustix::mm::{MprotectFlags, mprotect};
        // SAFETY: wasmtime hands over whole pages of code that it loaded, which nobody writes to any more.
        Ok(unsafe { mprotect(start.cast_mut().cast(), length, MprotectFlags::READ | MprotectFlags::EXEC) }?)
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        // Nobody changes code: it is unmapped now, or stays with the program.
        Ok(())
    }
}

/// What goes into [`Embedded::code`]: code for any processor of this architecture, and the component's digest (32 bytes) behind it. For the program's build;
/// the component is trusted.
///
/// # Errors
/// No component, or no compiler for this architecture.
pub fn precompile(component: &[u8]) -> Result<Vec<u8>, crate::EngineError> {
    let failed = |error: wasmtime::Error| crate::EngineError { reason: format!("{error:#}") };
    let mut config = config(None);
    // Naming a target keeps this machine's processor features out of it.
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).map_err(failed)?;
    let engine = wasmtime::Engine::new(&config).map_err(failed)?;
    let mut out = engine.precompile_component(component).map_err(failed)?;
    out.extend(Digest::of(component).as_raw());
    Ok(out)
}

/// An entry is the code, and the BLAKE3 of it: behind it, so that the code can be mapped from the file. What a JavaScript engine becomes is 40 MB, of
/// which a build runs little.
const CHECKSUM: usize = blake3::OUT_LEN;

impl Compiler {
    /// The component's code: from the cache, else compiled in a child and cached.
    pub(crate) async fn component(
        &self,
        engine: &Engine,
        identity: &Identity,
        bytes: &[u8],
    ) -> Result<Component, LoadError> {
        look_at(identity, bytes, self.limits.component)?;
        self.prepare_cache()?;
        let path = self.cache.join(entry_name(engine, &identity.digest));
        if let Some(component) = read_entry(engine, &path) {
            return Ok(component);
        }
        // Of several processes that want the same, one compiles. Where locks do not work, each does.
        let lock = path.with_extension("lock");
        let _lock = tokio::task::spawn_blocking(move || lock_file(&lock)).await.ok().flatten();
        if let Some(component) = read_entry(engine, &path) {
            return Ok(component);
        }
        let code = self.compile_in_child(identity, bytes).await?;
        let component = deserialize(engine, &code).map_err(|reason| LoadError::Compile {
            identity: identity.clone(),
            reason: format!("the result does not load: {reason}"),
        })?;
        if let Err(error) = write_entry(&path, &code) {
            tracing::warn!("compiled frontend not cached at {}: {error}", path.display());
        }
        Ok(component)
    }

    fn prepare_cache(&self) -> Result<(), LoadError> {
        let refuse = |reason: String| LoadError::CacheNotPrivate { path: self.cache.clone(), reason };
        if let Err(error) = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.cache) {
            return Err(refuse(error.to_string()));
        }
        let facts = std::fs::symlink_metadata(&self.cache).map_err(|error| refuse(error.to_string()))?;
        let us = rustix::process::geteuid().as_raw();
        if !facts.is_dir() {
            return Err(refuse("it is no directory".into()));
        }
        if facts.uid() != us {
            return Err(refuse(format!("it belongs to uid {}, we are {us}", facts.uid())));
        }
        if facts.mode() & 0o022 != 0 {
            return Err(refuse(format!("others may write to it (mode {:03o})", facts.mode() & 0o777)));
        }
        Ok(())
    }

    async fn compile_in_child(&self, identity: &Identity, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let refuse = |reason: String| LoadError::Compile { identity: identity.clone(), reason };
        let output = self.child(&[], bytes).await.map_err(refuse)?;
        let words = String::from_utf8_lossy(&output.stderr);
        let words: String = words.trim().chars().take(2000).collect();
        match output.status.code() {
            Some(0) => Ok(output.stdout),
            Some(INVALID) => Err(LoadError::NotAComponent { identity: identity.clone(), found: words }),
            _ => {
                use std::os::unix::process::ExitStatusExt;
                let how = match output.status.signal() {
                    Some(libc::SIGXCPU | libc::SIGKILL) => {
                        format!("stopped after {} s of processor time", self.limits.seconds)
                    }
                    Some(libc::SIGABRT) => {
                        format!("more than {} MiB of memory, or a bug of the compiler", self.limits.memory >> 20)
                    }
                    Some(signal) => format!("the compiler died of signal {signal}"),
                    None => output.status.to_string(),
                };
                Err(refuse(if words.is_empty() { how } else { format!("{how}: {words}") }))
            }
        }
    }

    /// Runs the child on a component: without `offsets` it compiles, with some it says what stands there. The error is a reason.
    pub(crate) async fn child(&self, offsets: &[u64], bytes: &[u8]) -> Result<std::process::Output, String> {
        let mut child = tokio::process::Command::new(&self.command)
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("starting {}: {error}", self.command.display()))?;
        let mut stdin = child.stdin.take().ok_or("the compiler has no input")?;
        let mut message = Vec::with_capacity(bytes.len() + HEADER + offsets.len() * 8);
        for number in [self.limits.memory, self.limits.seconds, offsets.len() as u64].iter().chain(offsets) {
            message.extend(number.to_le_bytes());
        }
        message.extend(bytes);
        let feed = async move {
            // A child that dies early says why on its standard error.
            let _ = stdin.write_all(&message).await;
            drop(stdin);
        };
        let wait = async { tokio::join!(feed, child.wait_with_output()).1 };
        tokio::time::timeout(Duration::from_secs(self.limits.seconds * BUSY), wait)
            .await
            .map_err(|_| format!("it took longer than {} s", self.limits.seconds * BUSY))?
            .map_err(|error| error.to_string())
    }
}

/// Bytes of a component from which on it is compiled without optimisation.
const LARGE: usize = 6 << 20;

/// What the child is told before the component: bytes of memory, seconds, and how many offsets follow; eight bytes each, little endian.
const HEADER: usize = 24;
/// More offsets than a backtrace has.
const MOST_OFFSETS: u64 = 1000;

/// Exit code of the child for bytes that are no valid component.
const INVALID: i32 = 3;

/// The compiling child: limits and a component on standard input, code on standard output; or, where it is asked for lines ([`crate::lines`]), those. Ends the process. To be called first
/// thing in `main` when the program was started by [`Compiler::command`]: it sets limits for the whole process.
pub fn compile_main() -> ! {
    let code = match compile_child() {
        Ok(()) => 0,
        Err((code, reason)) => {
            eprintln!("{reason}");
            code
        }
    };
    std::process::exit(code)
}

fn compile_child() -> Result<(), (i32, String)> {
    let broken = |error: &dyn std::fmt::Display| (1, error.to_string());
    let mut header = [0; HEADER];
    let mut stdin = std::io::stdin().lock();
    stdin.read_exact(&mut header).map_err(|error| broken(&error))?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| header[at + index]));
    for (resource, limit) in [
        (rustix::process::Resource::As, number(0)),
        (rustix::process::Resource::Cpu, number(8)),
        (rustix::process::Resource::Core, 0),
    ] {
        let limit = rustix::process::Rlimit { current: Some(limit), maximum: Some(limit) };
        rustix::process::setrlimit(resource, limit).map_err(|error| broken(&format!("setting a limit: {error}")))?;
    }
    let mut offsets = Vec::new();
    for _ in 0..number(16).min(MOST_OFFSETS) {
        let mut offset = [0; 8];
        stdin.read_exact(&mut offset).map_err(|error| broken(&error))?;
        offsets.push(u64::from_le_bytes(offset));
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    if !offsets.is_empty() {
        let found = crate::lines::read(&bytes, &offsets);
        return std::io::stdout().lock().write_all(&found).map_err(|error| broken(&error));
    }
    let mut config = config(None);
    if bytes.len() >= LARGE {
        // A language's whole runtime, of which a build file uses little: the wait for its compilation is what people notice.
        config.cranelift_opt_level(OptLevel::None).cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    let engine = wasmtime::Engine::new(&config).map_err(|error| broken(&format!("{error:#}")))?;
    let code = engine.precompile_component(&bytes).map_err(|error| (INVALID, format!("{error:#}")))?;
    std::io::stdout().lock().write_all(&code).map_err(|error| broken(&error))
}

/// Refuses early what is no component.
fn look_at(identity: &Identity, bytes: &[u8], limit: usize) -> Result<(), LoadError> {
    let not = |found: String| LoadError::NotAComponent { identity: identity.clone(), found };
    if bytes.len() > limit {
        return Err(not(format!("{} MiB (limit: {} MiB)", bytes.len() >> 20, limit >> 20)));
    }
    if bytes.starts_with(b"\x7fELF") || wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(LoadError::Precompiled { identity: identity.clone() });
    }
    match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err(not("it is a core module; make a component of it (`wasm-tools component new`)".into()))
        }
        [b'\0', b'a', b's', b'm', ..] => Err(not("it is WebAssembly of an unknown version".into())),
        [] => Err(not("it is empty".into())),
        _ => Err(not("it is not WebAssembly at all".into())),
    }
}

/// Named by the component and by all that the code depends on.
fn entry_name(engine: &Engine, digest: &Digest) -> String {
    struct Collect(rhost_llb::Hasher);
    impl Hasher for Collect {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut collect = Collect(rhost_llb::Hasher::new());
    engine.wasmtime().precompile_compatibility_hash().hash(&mut collect);
    format!("{}-{}.code", digest.hex(), collect.0.finish().hex())
}

/// Whatever is wrong with an entry, it is as if there were none.
fn read_entry(engine: &Engine, path: &Path) -> Option<Component> {
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let facts = file.metadata().ok()?;
    if !facts.is_file() || facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
        return None;
    }
    let code = facts.len().checked_sub(CHECKSUM as u64)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader((&mut file).take(code)).ok()?;
    let mut sum = [0; CHECKSUM];
    file.read_exact(&mut sum).ok()?;
    if hasher.count() != code || *hasher.finalize().as_bytes() != sum {
        return None;
    }
    // The very file that was read, whatever its name stands for by now.
    let place = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: as in `deserialize`; the file is in a directory that only we can write, nobody writes to one that is there, and its checksum is right.
    let mapped = unsafe { Component::deserialize_file(engine.wasmtime(), place) };
    mapped.inspect_err(|error| tracing::debug!("an entry of compiled frontends is of no use: {error:#}")).ok()
}

/// Waits for the lock on `path`; it ends with the file, and so with this process. The file stays: it is empty.
fn lock_file(path: &Path) -> Option<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = file.ok()?;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive) {
            Ok(()) => return Some(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn write_entry(path: &Path, code: &[u8]) -> std::io::Result<()> {
    // Two processes may write the same entry at once: each its own file, the last rename stays.
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(code)?;
    file.write_all(blake3::hash(code).as_bytes())?;
    drop(file);
    std::fs::rename(part, path)
}

fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: `code` was made by wasmtime in a child of this very program, either just now or earlier by this user: it comes
    // from a file in a directory that only we can write, and its checksum is right; or it is a `&'static` part of this program, made by
    // its build (`Embedded`). Nothing else reaches this function. wasmtime itself checks that version, settings and processor features fit.
    unsafe { Component::deserialize(engine.wasmtime(), code) }.map_err(|error| format!("{error:#}"))
}
