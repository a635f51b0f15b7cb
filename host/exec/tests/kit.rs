//! A busybox root and short forms for steps.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rhost_exec::{ExecError, Exit, OutputStream, OverlayUpper, Step, Tree};

pub struct Room {
    pub dir: tempfile::TempDir,
}

/// Whether the machine lets us; loud where it does not.
pub fn able() -> bool {
    let why = if !Path::new("/bin/busybox").exists() {
        "no /bin/busybox"
    } else if !rustix::process::geteuid().is_root() {
        "not root"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "this test must run in CI: {why}");
    eprintln!("SKIP: {why}");
    false
}

impl Room {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let room = Self { dir };
        for sub in
            ["base/bin", "base/dev", "base/etc", "base/proc", "base/sys", "base/root", "base/tmp", "upper", "work"]
        {
            fs::create_dir_all(room.path(sub)).unwrap();
        }
        fs::copy("/bin/busybox", room.path("base/bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "cat", "id", "ls", "echo", "sleep", "mknod", "touch", "readlink", "stat", "hostname",
            "mount", "ip", "chroot",
        ] {
            symlink("busybox", room.path("base/bin").join(applet)).unwrap();
        }
        fs::set_permissions(room.path("base/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(room.path("base/etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
            .unwrap();
        fs::write(room.path("base/etc/group"), "root:x:0:\nwheel:x:10:app\napp:x:1001:\n").unwrap();
        room
    }

    pub fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    pub fn overlay(&self) -> Tree {
        let upper = OverlayUpper { upper: self.path("upper"), work: self.path("work") };
        Tree::Overlay { lowers: vec![self.path("base")], upper: Some(upper) }
    }

    pub fn step(&self, script: &str) -> Step {
        Step::new(self.overlay(), ["/bin/sh", "-c", script])
    }

    /// What the step wrote, relative paths, sorted.
    pub fn changes(&self) -> Vec<String> {
        fn walk(dir: &Path, prefix: &str, out: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), out);
                }
                out.push(name);
            }
        }
        let mut out = Vec::new();
        walk(&self.path("upper"), "", &mut out);
        out.sort();
        out
    }
}

pub struct Ran {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

pub fn try_run(step: Step) -> Result<Ran, ExecError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut sink = |stream: OutputStream, chunk: &[u8]| match stream {
        OutputStream::Stdout => out.extend_from_slice(chunk),
        OutputStream::Stderr => err.extend_from_slice(chunk),
    };
    let exit = runtime.block_on(rhost_exec::run(step, &mut sink))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { exit, out: text(out), err: text(err) })
}

pub fn run(step: Step) -> Ran {
    let ran = try_run(step).unwrap();
    assert!(ran.exit.success, "{:?}\n{}{}", ran.exit, ran.out, ran.err);
    ran
}

/// Output of a script in a fresh room, standard error last.
pub fn script(text: &str) -> String {
    let ran = run(Room::new().step(text));
    ran.out + &ran.err
}
