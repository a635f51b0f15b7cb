//! Any one thing about an operation that enters its key is named, and nothing else is.
use proptest::prelude::*;
use rhost_llb::{
    CacheOpt, CacheSharing, CdiDevice, ChownOpt, Digest, ExecOp, FileAction, FileActionCopy, FileActionKind,
    FileActionMkDir, FileActionMkFile, FileActionRm, FileActionSymlink, FileOp, HostIp, Input, Meta, Mount, MountType,
    NetMode, Op, OpKind, Platform, ProxyEnv, SecretEnv, SecretOpt, SecurityMode, TmpfsOpt, Ulimit, UserOpt,
    VertexDigest, cache_key,
};

use super::compare::differing;
use super::parts::{PartKind, Showing, parts};

type Mutation = (Option<PartKind>, fn(&mut Op, &str));

fn input(text: &str) -> Input {
    Input { digest: VertexDigest(Digest::of(text)), index: 0 }
}

fn mount(dest: &str, mount_type: MountType, input: i64, output: i64) -> Mount {
    let (tmpfs_opt, cache_opt, secret_opt, ssh_opt) = Default::default();
    let (selector, result_id, dest) = (String::new(), String::new(), dest.to_owned());
    let content_cache = Default::default();
    Mount {
        input,
        selector,
        dest,
        output,
        readonly: false,
        mount_type,
        tmpfs_opt,
        cache_opt,
        secret_opt,
        ssh_opt,
        result_id,
        content_cache,
    }
}

fn exec_op() -> Op {
    let meta = Meta {
        args: vec!["/bin/sh".into(), "-c".into(), "make".into()],
        env: vec!["PATH=/bin".into(), "A=1".into()],
        cwd: "/w".into(),
        user: "app".into(),
        remove_mount_stubs_recursive: true,
        ..Meta::default()
    };
    let secret = SecretOpt { id: "s".into(), mode: 0o400, ..SecretOpt::default() };
    let cache = CacheOpt { id: "/c".into(), sharing: CacheSharing::Shared };
    let exec = ExecOp {
        meta: Some(meta),
        mounts: vec![
            mount("/", MountType::Bind, 0, 0),
            Mount { readonly: true, ..mount("/src", MountType::Bind, 1, -1) },
            Mount { cache_opt: Some(cache), ..mount("/c", MountType::Cache, -1, -1) },
            Mount { tmpfs_opt: Some(TmpfsOpt { size: 5 }), ..mount("/t", MountType::Tmpfs, -1, -1) },
            Mount { secret_opt: Some(secret), ..mount("/run/secrets/s", MountType::Secret, -1, 0) },
        ],
        ..ExecOp::default()
    };
    let platform = Some(Platform::host());
    Op { inputs: vec![input("root"), input("src")], platform, constraints: None, kind: Some(OpKind::Exec(exec)) }
}

fn exec(op: &mut Op) -> &mut ExecOp {
    match &mut op.kind {
        Some(OpKind::Exec(exec)) => exec,
        _ => panic!("an exec"),
    }
}

fn meta(op: &mut Op) -> &mut Meta {
    exec(op).meta.as_mut().expect("there")
}

const EXEC: &[Mutation] = &[
    (Some(PartKind::Command), |op, text| meta(op).args[2] = text.into()),
    (Some(PartKind::Command), |op, text| meta(op).args.push(text.into())),
    (Some(PartKind::Environment), |op, text| meta(op).env[1] = format!("A={text}")),
    (Some(PartKind::Environment), |op, text| meta(op).env.push(format!("N{text}=1"))),
    (Some(PartKind::Environment), |op, _| drop(meta(op).env.pop())),
    (Some(PartKind::EnvironmentOrder), |op, _| meta(op).env.reverse()),
    (Some(PartKind::Directory), |op, text| meta(op).cwd = format!("/{text}")),
    (Some(PartKind::User), |op, text| meta(op).user = text.into()),
    (Some(PartKind::Hostname), |op, text| meta(op).hostname = text.into()),
    (Some(PartKind::Cgroup), |op, text| meta(op).cgroup_parent = text.into()),
    (Some(PartKind::Ulimit), |op, text| meta(op).ulimits.push(Ulimit { name: text.into(), soft: 1, hard: 2 })),
    (Some(PartKind::Host), |op, text| meta(op).extra_hosts.push(HostIp { host: text.into(), ip: "1.2.3.4".into() })),
    (Some(PartKind::ExitCodes), |op, _| meta(op).valid_exit_codes.push(3)),
    (Some(PartKind::Options), |op, _| meta(op).remove_mount_stubs_recursive = false),
    (Some(PartKind::Network), |op, _| exec(op).network = NetMode::None),
    (Some(PartKind::Security), |op, _| exec(op).security = SecurityMode::Insecure),
    (Some(PartKind::Secret), |op, text| {
        exec(op).secret_env.push(SecretEnv { id: text.into(), name: "S".into(), optional: true });
    }),
    (Some(PartKind::Device), |op, text| {
        exec(op).cdi_devices.push(CdiDevice { name: format!("v.example/c={text}"), optional: false });
    }),
    (Some(PartKind::Mount), |op, _| exec(op).mounts[1].readonly = false),
    (Some(PartKind::Mount), |op, _| exec(op).mounts[0].readonly = true),
    (Some(PartKind::Mount), |op, _| exec(op).mounts[3].tmpfs_opt = Some(TmpfsOpt { size: 6 })),
    (Some(PartKind::Mount), |op, text| exec(op).mounts[4].secret_opt.as_mut().expect("there").id = text.into()),
    (Some(PartKind::Mount), |op, _| exec(op).mounts[4].secret_opt.as_mut().expect("there").mode = 0o444),
    (Some(PartKind::Mount), |op, text| exec(op).mounts.push(mount(&format!("/n{text}"), MountType::Tmpfs, -1, -1))),
    (Some(PartKind::Mount), |op, _| drop(exec(op).mounts.remove(3))),
    (Some(PartKind::Mount), |op, _| {
        exec(op).mounts[2].cache_opt.as_mut().expect("there").sharing = CacheSharing::Locked
    }),
    (Some(PartKind::Platform), |op, _| op.platform.as_mut().expect("there").architecture = "riscv64".into()),
    // What is no part of the key is not named.
    (None, |op, text| {
        meta(op).proxy_env = Some(ProxyEnv { http_proxy: text.into(), ..ProxyEnv::default() });
    }),
    (None, |op, _| op.inputs.reverse()),
];

fn copy_op() -> Op {
    let copy = FileActionCopy {
        src: "/src/a".into(),
        dest: "/x/".into(),
        owner: None,
        mode: -1,
        follow_symlink: true,
        timestamp: -1,
        ..FileActionCopy::default()
    };
    let action = |kind, input, secondary_input, output| FileAction { input, secondary_input, output, kind };
    let file = FileActionMkFile {
        path: "/f".into(),
        mode: 0o644,
        data: b"text".as_slice().into(),
        owner: None,
        timestamp: -1,
    };
    let directory = FileActionMkDir { path: "/d".into(), mode: 0o755, make_parents: true, owner: None, timestamp: -1 };
    let link = FileActionSymlink { old_path: "/d".into(), new_path: "/l".into(), owner: None, timestamp: -1 };
    let rm = FileActionRm { path: "/r".into(), allow_not_found: true, allow_wildcard: false };
    let actions = vec![
        action(FileActionKind::Copy(copy), 0, 1, -1),
        action(FileActionKind::MkFile(file), 2, -1, -1),
        action(FileActionKind::MkDir(directory), 3, -1, -1),
        action(FileActionKind::Symlink(link), 4, -1, -1),
        action(FileActionKind::Rm(rm), 5, -1, 0),
    ];
    let kind = Some(OpKind::File(FileOp { actions }));
    Op { inputs: vec![input("root"), input("src")], platform: None, constraints: None, kind }
}

fn action(op: &mut Op, at: usize) -> &mut FileActionKind {
    match &mut op.kind {
        Some(OpKind::File(file)) => &mut file.actions[at].kind,
        _ => panic!("a file op"),
    }
}

macro_rules! action {
    ($kind:ident, $at:literal, |$action:ident, $text:ident| $change:expr) => {
        |op: &mut Op, $text: &str| match action(op, $at) {
            FileActionKind::$kind($action) => $change,
            _ => panic!("another action"),
        }
    };
}

fn root() -> Option<ChownOpt> {
    Some(ChownOpt { user: Some(UserOpt::ById(7)), group: None })
}

const FILE: &[Mutation] = &[
    (Some(PartKind::Source), action!(Copy, 0, |copy, text| copy.src = format!("/src/{text}"))),
    (Some(PartKind::Destination), action!(Copy, 0, |copy, text| copy.dest = format!("/{text}"))),
    (Some(PartKind::Owner), action!(Copy, 0, |copy, _t| copy.owner = root())),
    (Some(PartKind::Mode), action!(Copy, 0, |copy, _t| copy.mode = 0o600)),
    (Some(PartKind::Mode), action!(Copy, 0, |copy, _t| copy.mode_str = "u+x".into())),
    (Some(PartKind::Time), action!(Copy, 0, |copy, _t| copy.timestamp = 9)),
    (Some(PartKind::Filter), action!(Copy, 0, |copy, text| copy.include_patterns.push(text.into()))),
    (Some(PartKind::Filter), action!(Copy, 0, |copy, text| copy.exclude_patterns.push(text.into()))),
    (Some(PartKind::Options), action!(Copy, 0, |copy, _t| copy.attempt_unpack = true)),
    (Some(PartKind::Options), action!(Copy, 0, |copy, _t| copy.allow_wildcard = true)),
    (Some(PartKind::Destination), action!(MkFile, 1, |file, text| file.path = format!("/{text}"))),
    (Some(PartKind::Text), action!(MkFile, 1, |file, text| file.data = text.to_owned().into_bytes().into())),
    (Some(PartKind::Mode), action!(MkFile, 1, |file, _t| file.mode = 0o600)),
    (Some(PartKind::Owner), action!(MkFile, 1, |file, _t| file.owner = root())),
    (Some(PartKind::Destination), action!(MkDir, 2, |directory, text| directory.path = format!("/{text}"))),
    (Some(PartKind::Options), action!(MkDir, 2, |directory, _t| directory.make_parents = false)),
    (Some(PartKind::Time), action!(MkDir, 2, |directory, _t| directory.timestamp = 3)),
    (Some(PartKind::Source), action!(Symlink, 3, |link, text| link.old_path = format!("/{text}"))),
    (Some(PartKind::Destination), action!(Symlink, 3, |link, text| link.new_path = format!("/{text}"))),
    (Some(PartKind::Destination), action!(Rm, 4, |rm, text| rm.path = format!("/{text}"))),
    (Some(PartKind::Options), action!(Rm, 4, |rm, _t| rm.allow_wildcard = true)),
];

fn named(before: &Op, after: &Op) -> Vec<PartKind> {
    let (host, showing) = (Platform::host(), Showing::default());
    let found = differing(&parts(after, &host, &showing), &parts(before, &host, &showing));
    let kinds: Vec<PartKind> = found.into_iter().map(|(kind, ..)| kind).filter(|kind| !kind.is_soft()).collect();
    kinds.iter().copied().filter(|kind| !kind.is_implied(&kinds)).collect()
}

fn key(op: &Op) -> Digest {
    cache_key::cache_map(op, &Platform::host()).expect("valid").digest.digest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn one_change_is_named_and_nothing_else(at in 0..EXEC.len() + FILE.len(), text in "[a-z]{3,9}zz") {
        let (base, (wanted, change)) = match at.checked_sub(EXEC.len()) {
            None => (exec_op(), EXEC[at]),
            Some(at) => (copy_op(), FILE[at]),
        };
        let mut op = base.clone();
        change(&mut op, &text);
        prop_assert_ne!(&op, &base);
        prop_assert_eq!(key(&op) != key(&base), wanted.is_some(), "mutation {}", at);
        prop_assert_eq!(named(&base, &op), wanted.into_iter().collect::<Vec<_>>(), "mutation {}", at);
    }
}
