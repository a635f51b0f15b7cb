//! Which functions of a program run: a breakpoint at the start of each, in it and in all that it starts, taken away where it was met (ptrace(2)).
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// `int3`.
const BREAKPOINT: u8 = 0xcc;

/// Of one program, over any number of runs.
pub struct Trace {
    /// Device and inode.
    program: (u64, u64),
    /// Starts of functions by the program's headers, sorted.
    starts: Vec<u64>,
    /// What is added to them where the program is mapped: always the same, as runs are without randomised addresses.
    base: Option<u64>,
    /// The first byte of each.
    bytes: HashMap<u64, u8>,
    /// In the order in which they were met.
    ran: Vec<u64>,
}

impl Trace {
    pub fn new(program: &Path, mut starts: Vec<u64>) -> Result<Self> {
        starts.sort_unstable();
        starts.dedup();
        let about = std::fs::metadata(program)?;
        ensure!(!starts.is_empty(), "{} has no symbols", program.display());
        Ok(Self { program: (about.dev(), about.ino()), starts, base: None, bytes: HashMap::new(), ran: Vec::new() })
    }

    /// Functions that ran so far.
    pub fn ran(&self) -> &[u64] {
        &self.ran
    }

    /// Runs `command` to its end.
    ///
    /// # Errors
    /// It fails, or cannot be watched.
    pub fn run(&mut self, command: &Command) -> Result<()> {
        let mut waiting = Command::new("setarch");
        waiting.args(["--addr-no-randomize", "sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"]);
        waiting.arg(command.get_program()).args(command.get_args()).env_clear();
        waiting.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            waiting.current_dir(directory);
        }
        let log = tempfile::NamedTempFile::new()?;
        waiting.stdin(std::process::Stdio::null()).stdout(log.reopen()?).stderr(log.reopen()?);
        // Waited for below, among those that it starts.
        let first = Pid::from_raw(waiting.spawn().context("starting setarch")?.id() as i32);
        let stopped = waitpid(first, Some(WaitPidFlag::WUNTRACED))?;
        ensure!(matches!(stopped, WaitStatus::Stopped(..)), "{command:?}: {stopped:?} before it began");
        ptrace::seize(
            first,
            Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACEEXEC
                | Options::PTRACE_O_EXITKILL,
        )?;
        nix::sys::signal::kill(first, Signal::SIGCONT)?;
        let ended = self.watch(first)?;
        ensure!(
            ended == WaitStatus::Exited(first, 0),
            "{command:?}: {ended:?}\n{}",
            std::fs::read_to_string(log.path())?
        );
        Ok(())
    }

    /// Until none is left; how `first` ended.
    fn watch(&mut self, first: Pid) -> Result<WaitStatus> {
        let (mut end, mut living) = (None, HashSet::from([first]));
        // A task may be heard to end before it is heard to have begun.
        let mut gone = HashSet::new();
        while !living.is_empty() {
            let status =
                waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL)).context("waiting for what is watched")?;
            let (task, signal) = match status {
                WaitStatus::Exited(task, _) | WaitStatus::Signaled(task, ..) => {
                    if !living.remove(&task) {
                        gone.insert(task);
                    }
                    if task == first {
                        end = Some(status);
                    }
                    continue;
                }
                WaitStatus::PtraceEvent(task, _, event) => {
                    if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 {
                        self.plant(task)?;
                    } else if event != ptrace::Event::PTRACE_EVENT_STOP as i32 {
                        let new = Pid::from_raw(ptrace::getevent(task)? as i32);
                        if !gone.remove(&new) {
                            living.insert(new);
                        }
                    }
                    (task, None)
                }
                WaitStatus::Stopped(task, Signal::SIGTRAP) => (task, self.met(task)?),
                WaitStatus::Stopped(task, signal) => (task, Some(signal)),
                other => bail!("{other:?} is not looked for"),
            };
            match ptrace::cont(task, signal) {
                // Killed meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).context("going on"),
            }
        }
        end.context("the first process never ended")
    }

    /// Sets every breakpoint in a process that has begun to run the program; does nothing in others.
    fn plant(&mut self, task: Pid) -> Result<()> {
        // Of the tracer's namespace, whatever the task's own is.
        let of = |name| format!("/proc/{task}/{name}");
        let about = std::fs::metadata(of("exe"))?;
        if (about.dev(), about.ino()) != self.program {
            return Ok(());
        }
        let exe = std::fs::read_link(of("exe"))?;
        let maps = std::fs::read_to_string(of("maps"))?;
        let line =
            maps.lines().find(|line| line.ends_with(&*exe.to_string_lossy())).context("the program is not mapped")?;
        let base = u64::from_str_radix(line.split('-').next().unwrap_or_default(), 16)?;
        ensure!(*self.base.get_or_insert(base) == base, "the program is mapped at another address than before");
        let (from, to) = (self.starts[0], self.starts[self.starts.len() - 1] + 1);
        let memory = File::options().read(true).write(true).open(of("mem"))?;
        let mut text = vec![0; usize::try_from(to - from)?];
        memory.read_exact_at(&mut text, base + from)?;
        for start in &self.starts {
            let byte = &mut text[(start - from) as usize];
            self.bytes.entry(*start).or_insert(*byte);
            *byte = BREAKPOINT;
        }
        memory.write_all_at(&text, base + from).context("setting breakpoints")
    }

    /// Notes the function and takes its breakpoint away; gives a trap back that is none of ours.
    fn met(&mut self, task: Pid) -> Result<Option<Signal>> {
        let mut registers = ptrace::getregs(task)?;
        let (at, base) = (registers.rip - 1, self.base.unwrap_or_default());
        let Some(byte) = at.checked_sub(base).and_then(|start| self.bytes.get(&start)) else {
            return Ok(Some(Signal::SIGTRAP));
        };
        let memory = File::options().write(true).open(format!("/proc/{task}/mem"))?;
        let start = at - base;
        // Taken away already where another thread, or this program elsewhere, met it first.
        if !self.ran.contains(&start) {
            self.ran.push(start);
        }
        memory.write_all_at(&[*byte], at)?;
        registers.rip = at;
        ptrace::setregs(task, registers)?;
        Ok(None)
    }
}
