//! The text form: as people read it, and the same for two graphs if and only if they are the same.
use std::collections::BTreeSet;

use rhost_llb::*;
use serde_json::Value;

use crate::golden::steps;

fn text(definition: &Definition) -> Result<String, LoadError> {
    Ok(Graph::load(definition, &Limits::HOSTILE)?.to_text())
}

#[test]
fn a_graph_reads_well() {
    let golden: Value = serde_json::from_str(include_str!("golden/dockerfile2.convertllb.json")).expect("JSON");
    let (builder, head) = steps(&golden);
    let found = text(&builder.marshal(Some(head)).expect("marshals")).expect("loads");
    let wanted = include_str!("golden/dockerfile2.txt");
    assert_eq!(found, wanted, "--- found\n{found}");
}

fn source(name: &str) -> Op {
    Op {
        constraints: Some(WorkerConstraints::default()),
        kind: Some(OpKind::Source(SourceOp::new(SourceScheme::Local, name).with_attr("a", "1").with_attr("b", "2"))),
        ..Op::default()
    }
}

/// A definition whose head is `op`, and which has what that needs.
fn definition(op: &[u8]) -> Definition {
    let head = Op { inputs: vec![Input { digest: VertexDigest(Digest::of(op)), index: 0 }], ..Op::default() };
    let ops = [source("a").encode(), source("b").encode(), op.to_vec(), head.encode()];
    Definition { def: ops.into_iter().map(Into::into).collect(), ..Definition::default() }
}

fn op(kind: OpKind) -> Op {
    let input = |name| Input { digest: source(name).digest(), index: 0 };
    Op {
        inputs: vec![input("a"), input("b")],
        platform: Some(Platform::new("linux", "arm", "v7")),
        constraints: Some(WorkerConstraints { filter: vec!["x".into()] }),
        kind: Some(kind),
    }
}

/// One operation of each kind with every field set.
fn full() -> Vec<Op> {
    let named = |name: &str| Some(UserOpt::ByName(NamedUserOpt { name: name.into(), input: 0 }));
    let owner = Some(ChownOpt { user: named("u"), group: Some(UserOpt::ById(7)) });
    let action = |output, kind| FileAction { input: 0, secondary_input: -1, output, kind };
    let mut mount = Mount { input: 1, dest: "/m".into(), output: 1, selector: "/s".into(), ..Mount::default() };
    mount.readonly = true;
    mount.content_cache = ContentCache::Off;
    let of =
        |mount_type, dest: &str| Mount { mount_type, dest: dest.into(), input: -1, output: -1, ..Mount::default() };
    let exec = ExecOp {
        meta: Some(Meta {
            args: vec!["a".into(), "b".into()],
            env: vec!["A=1".into(), "B=2".into()],
            cwd: "/w".into(),
            user: "u".into(),
            proxy_env: Some(ProxyEnv {
                http_proxy: "h".into(),
                https_proxy: "s".into(),
                ftp_proxy: "f".into(),
                no_proxy: "n".into(),
                all_proxy: "a".into(),
            }),
            extra_hosts: vec![HostIp { host: "h".into(), ip: "10.0.0.1".into() }],
            hostname: "n".into(),
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 1, hard: 2 }],
            cgroup_parent: "c".into(),
            remove_mount_stubs_recursive: true,
            valid_exit_codes: vec![1, 2],
        }),
        mounts: vec![
            Mount { input: 0, dest: "/".into(), ..Mount::default() },
            mount,
            Mount { tmpfs_opt: Some(TmpfsOpt { size: 5 }), ..of(MountType::Tmpfs, "/t") },
            Mount {
                cache_opt: Some(CacheOpt { id: "c".into(), sharing: CacheSharing::Locked }),
                ..of(MountType::Cache, "/c")
            },
            Mount {
                secret_opt: Some(SecretOpt { id: "s".into(), uid: 1, gid: 2, mode: 0o400, optional: true }),
                output: 0,
                ..of(MountType::Secret, "/x")
            },
            Mount {
                ssh_opt: Some(SshOpt { id: "d".into(), uid: 1, gid: 2, mode: 0o600, optional: true }),
                output: 0,
                ..of(MountType::Ssh, "/y")
            },
        ],
        network: NetMode::Host,
        security: SecurityMode::Insecure,
        secret_env: vec![SecretEnv { id: "s".into(), name: "S".into(), optional: true }],
        cdi_devices: vec![CdiDevice { name: "v.com/c=n".into(), optional: true }],
    };
    let copy = FileActionCopy {
        src: "/a".into(),
        dest: "/b".into(),
        owner: owner.clone(),
        mode: 0o644,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: 3,
        include_patterns: vec!["i".into()],
        exclude_patterns: vec!["e".into()],
        always_replace_existing_dest_paths: true,
        mode_str: "u+x".into(),
        required_paths: vec!["r".into()],
    };
    let dir =
        FileActionMkDir { path: "/d".into(), mode: 0o755, make_parents: true, owner: owner.clone(), timestamp: 4 };
    let file = FileActionMkFile {
        path: "/f".into(),
        mode: 0o600,
        data: "one\ntwo\n".into(),
        owner: owner.clone(),
        timestamp: 5,
    };
    let link = FileActionSymlink { old_path: "o".into(), new_path: "/n".into(), owner, timestamp: 6 };
    let rm = FileActionRm { path: "/r".into(), allow_not_found: true, allow_wildcard: true };
    let file = FileOp {
        actions: vec![
            FileAction { input: 0, secondary_input: 1, output: -1, kind: FileActionKind::Copy(copy) },
            FileAction { input: 2, ..action(-1, FileActionKind::MkDir(dir)) },
            FileAction { input: 3, ..action(-1, FileActionKind::MkFile(file)) },
            FileAction { input: 4, ..action(-1, FileActionKind::Symlink(link)) },
            FileAction { input: 5, ..action(0, FileActionKind::Rm(rm)) },
        ],
    };
    let merge = MergeOp { inputs: vec![OpInput { input: 0 }, OpInput { input: 1 }] };
    let diff = DiffOp { lower: Some(OpInput { input: 0 }), upper: Some(OpInput { input: 1 }) };
    let pass = PassthroughOp { id: "p".into(), outputs: vec![0, 1] };
    let build = BuildOp {
        builder: SELF_BUILDER,
        inputs: [("buildkit.llb.definition".to_owned(), OpInput { input: 0 }), ("z".into(), OpInput { input: 1 })]
            .into(),
        def: None,
        attrs: [("llbbuild.filename".to_owned(), "f".to_owned())].into(),
    };
    let mut all: Vec<Op> = [
        OpKind::Exec(exec),
        OpKind::File(file),
        OpKind::Merge(merge),
        OpKind::Diff(diff),
        OpKind::Passthrough(pass),
        OpKind::Build(build),
    ]
    .map(op)
    .into();
    all.push(Op {
        inputs: Vec::new(),
        ..op(OpKind::Source(SourceOp::new(SourceScheme::Image, "x").with_attr("k", "v")))
    });
    all
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `bytes` with one thing changed, for each thing that could be one: numbers, texts, and fields that are dropped or doubled.
fn changed(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (key, key_length) = varint(&bytes[at..])?;
        let value = at + key_length;
        let (number, length) = varint(bytes.get(value..)?)?;
        let mut with = |new: &[u8], end: usize| out.push([&bytes[..at], new, &bytes[end..]].concat());
        match key & 7 {
            0 => {
                let end = value + length;
                for new in [number.wrapping_add(1), number.wrapping_sub(1), 0, 1] {
                    let mut field = bytes[at..value].to_vec();
                    put(new, &mut field);
                    with(&field, end);
                }
                with(&[], end);
                at = end;
            }
            2 => {
                let start = value + length;
                let end = start + usize::try_from(number).ok()?;
                let payload = bytes.get(start..end)?;
                let mut inner = changed(payload).unwrap_or_default();
                inner.extend([
                    [payload, b"x"].concat(),
                    [b"/", payload].concat(),
                    [payload, b"\" x=\"y"].concat(),
                    Vec::new(),
                ]);
                for new in inner {
                    let mut field = bytes[at..value].to_vec();
                    put(new.len() as u64, &mut field);
                    field.extend(new);
                    with(&field, end);
                }
                with(&[], end);
                with(&[&bytes[at..end], &bytes[at..end]].concat(), end);
                at = end;
            }
            _ => return None,
        }
    }
    Some(out)
}

fn body(text: &str) -> &str {
    text.rsplit_once("digest ").expect("a digest").0
}

#[test]
fn every_field_shows() {
    for op in full() {
        let bytes = op.encode();
        let original = text(&definition(&bytes)).expect("loads");
        let (mut seen, mut ops) = (BTreeSet::from([body(&original).to_owned()]), vec![op.clone()]);
        for bytes in changed(&bytes).expect("well formed") {
            let Ok(other) = Op::decode(&bytes, &Budget::new(1 << 20, 16)) else { continue };
            let Ok(found) = text(&definition(&other.encode())) else { continue };
            if !ops.contains(&other) {
                assert!(seen.insert(body(&found).to_owned()), "{other:?}\nhas the text of another operation\n{found}");
                ops.push(other);
            } else {
                assert!(seen.contains(body(&found)), "one operation, two texts\n{found}");
            }
        }
        let kind = op.kind.as_ref().map_or("", OpKind::name);
        assert!(ops.len() > 10, "{kind}: only {} were compared", ops.len());
    }
}

#[test]
fn the_order_of_inputs_shows() {
    let diff = |lower, upper| {
        OpKind::Diff(DiffOp { lower: Some(OpInput { input: lower }), upper: Some(OpInput { input: upper }) })
    };
    let one = op(diff(0, 1));
    let mut other = op(diff(1, 0));
    other.inputs.reverse();
    let mut doubled = op(diff(0, 1));
    doubled.inputs[1] = doubled.inputs[0].clone();
    let mut same = doubled.clone();
    same.kind = Some(diff(0, 0));
    let texts: BTreeSet<String> = [one, other, doubled, same]
        .iter()
        .map(|op| body(&text(&definition(&op.encode())).expect("loads")).to_owned())
        .collect();
    assert_eq!(texts.len(), 4, "{texts:#?}");
}
