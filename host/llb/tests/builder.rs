//! The laws of the builder that the golden graphs do not reach.
use std::collections::BTreeMap;

use rhost_llb::*;

use crate::golden::{builder, copy};

fn local(builder: &mut GraphBuilder, name: &str) -> State {
    builder.source(SourceOp::new(SourceScheme::Local, name), &VertexOptions::default()).expect("valid")
}

fn meta() -> Meta {
    Meta { args: vec!["true".into()], cwd: "/".into(), ..Meta::default() }
}

fn mount(dest: &str, source: Option<State>) -> ExecMount {
    ExecMount {
        dest: dest.into(),
        source,
        selector: String::new(),
        readonly: false,
        kind: ExecMountKind::Bind,
        content_cache: ContentCache::Default,
    }
}

fn exec_of(builder: &GraphBuilder, state: State) -> (usize, ExecOp) {
    match builder.op(state) {
        Some(Op { inputs, kind: Some(OpKind::Exec(exec)), .. }) => (inputs.len(), exec.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mounts_are_sorted_inputs_once_and_outputs_go_back_to_who_asked() {
    let mut builder = builder();
    let (a, b) = (local(&mut builder, "a"), local(&mut builder, "b"));
    let mounts = vec![
        mount("/z", Some(a)),
        ExecMount { readonly: true, ..mount("/y", Some(b)) },
        mount("/b", None),
        ExecMount { kind: ExecMountKind::BindNoOutput, ..mount("/c", Some(a)) },
    ];
    let spec = ExecSpec { meta: meta(), root: Some(a), mounts, ..ExecSpec::default() };
    let outputs = builder.exec(spec, &VertexOptions::default()).expect("valid");
    let (inputs, exec) = exec_of(&builder, outputs.vertex);
    assert_eq!(inputs, 2);
    let found: Vec<_> = exec.mounts.iter().map(|mount| (mount.dest.as_str(), mount.input, mount.output)).collect();
    assert_eq!(found, [("/", 0, 0), ("/b", -1, 1), ("/c", 0, -1), ("/y", 1, -1), ("/z", 0, 2)]);
    let numbers: Vec<_> = outputs.mounts.iter().map(|state| state.map(State::output)).collect();
    assert_eq!(numbers, [Some(2), None, Some(1), None]);
    assert_eq!(outputs.root.map(State::output), Some(0));
}

#[test]
fn a_read_only_root_stays_what_it_was() {
    let mut builder = builder();
    let a = local(&mut builder, "a");
    let spec = ExecSpec { meta: meta(), root: Some(a), root_readonly: true, ..ExecSpec::default() };
    assert_eq!(builder.exec(spec, &VertexOptions::default()).expect("valid").root, Some(a));
}

#[test]
fn agents_have_a_place_and_a_variable() {
    let mut builder = builder();
    let agent = |dest: &str| ExecSsh {
        dest: dest.into(),
        options: SshOpt { id: "default".into(), mode: 0o600, ..SshOpt::default() },
    };
    let spec = ExecSpec { meta: meta(), ssh: vec![agent(""), agent("/other"), agent("")], ..ExecSpec::default() };
    let vertex = builder.exec(spec, &VertexOptions::default()).expect("valid").vertex;
    let (_, exec) = exec_of(&builder, vertex);
    let places: Vec<_> = exec.mounts.iter().map(|mount| mount.dest.as_str()).collect();
    assert_eq!(places, ["/", "/run/buildkit/ssh_agent.0", "/other", "/run/buildkit/ssh_agent.2"]);
    assert_eq!(exec.meta.expect("a process").env, ["SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"]);
    assert!(exec.mounts[1].output_index().is_none());
}

#[test]
fn a_tmpfs_starts_from_nothing() {
    let mut builder = builder();
    let a = local(&mut builder, "a");
    let tmpfs = ExecMount { kind: ExecMountKind::Tmpfs { size: 1 }, ..mount("/t", Some(a)) };
    let spec = ExecSpec { meta: meta(), mounts: vec![tmpfs], ..ExecSpec::default() };
    assert!(matches!(builder.exec(spec, &VertexOptions::default()), Err(BuildError::Mount { .. })));
}

#[test]
fn scratch_disappears() {
    let mut builder = builder();
    let none = VertexOptions::default();
    let a = local(&mut builder, "a");
    assert_eq!(builder.merge(&[None, None], &none), Ok(None));
    assert_eq!(builder.merge(&[None, Some(a)], &none), Ok(Some(a)));
    assert_eq!(builder.diff(None, Some(a), &none), Ok(Some(a)));
    assert_eq!(builder.diff(None, None, &none), Ok(None));
    let all_gone = builder.diff(Some(a), None, &none).expect("valid").expect("a vertex");
    let Some(OpKind::Diff(diff)) = &builder.op(all_gone).expect("ours").kind else { panic!("a diff") };
    assert_eq!(diff.upper, Some(OpInput { input: EMPTY_INPUT }));
    assert!(builder.marshal(None).expect("scratch").is_empty());
}

#[test]
fn only_what_is_needed_and_each_vertex_once_with_all_that_was_said_of_it() {
    let mut builder = builder();
    let named = |name: &str| VertexOptions::named(name);
    let first = builder.source(SourceOp::new(SourceScheme::Local, "a"), &named("first")).expect("valid");
    let again = builder
        .source(SourceOp::new(SourceScheme::Local, "a"), &VertexOptions { ignore_cache: true, ..named("again") })
        .expect("valid");
    builder.source(SourceOp::new(SourceScheme::Local, "a"), &named("not reached")).expect("valid");
    let other = local(&mut builder, "b");
    let merged = builder.merge(&[Some(first), Some(again)], &VertexOptions::default()).expect("valid");
    let definition = builder.marshal(merged).expect("valid");
    assert_eq!(definition.def.len(), 3);
    let metadata = &definition.metadata[&builder.digest(first).expect("ours")];
    assert_eq!(metadata.description[CUSTOM_NAME], "again");
    assert!(metadata.ignore_cache);
    assert!(!definition.metadata.contains_key(&builder.digest(other).expect("ours")));
    let head = Digest::of(definition.def.last().expect("a head"));
    let caps: Vec<_> = definition.metadata[&VertexDigest(head)].caps.keys().cloned().collect();
    assert_eq!(caps, ["constraints", "meta.description", "meta.ignorecache", "platform"]);
}

#[test]
fn import_gives_the_same_bytes_back() {
    let mut first = builder();
    let a = local(&mut first, "a");
    let step = FileStep::Copy { from: CopyFrom::State(Some(a)), copy: copy("/x", "/y") };
    let file = first.file(FileChain { base: None, steps: vec![step] }, &VertexOptions::named("a copy")).expect("valid");
    let definition = first.marshal(Some(file)).expect("valid");
    let mut second = builder();
    let state = second.import(&definition).expect("valid");
    assert_eq!(second.marshal(state).expect("valid"), definition);
    assert_eq!(second.import(&Definition::default()), Ok(None));
}

#[test]
fn a_copy_may_come_from_actions_of_its_own_vertex() {
    let mut builder = builder();
    let base = local(&mut builder, "a");
    let file = FileStep::MkFile(FileActionMkFile {
        path: "/in".into(),
        mode: 0o100644,
        data: "x".into(),
        ..FileActionMkFile::default()
    });
    let inner = FileChain { base: None, steps: vec![file] };
    let named = UserOpt::ByName(NamedUserOpt { name: "u".into(), input: 77 });
    let owner = Some(ChownOpt { user: Some(named), group: None });
    let copied =
        FileStep::Copy { from: CopyFrom::Chain(inner), copy: FileActionCopy { owner, ..copy("in", "sub/../out/.") } };
    let removed = FileStep::Rm(FileActionRm { path: "/../..".into(), ..FileActionRm::default() });
    let state = builder
        .file(FileChain { base: Some(base), steps: vec![copied, removed] }, &VertexOptions::default())
        .expect("valid");
    let Some(OpKind::File(file)) = &builder.op(state).expect("ours").kind else { panic!("a file op") };
    let indexes: Vec<_> =
        file.actions.iter().map(|action| (action.input, action.secondary_input, action.output)).collect();
    assert_eq!(indexes, [(-1, -1, -1), (0, 1, -1), (2, -1, 0)]);
    let FileActionKind::Copy(copied) = &file.actions[1].kind else { panic!("a copy") };
    assert_eq!((copied.src.as_str(), copied.dest.as_str()), ("/in", "/out/."));
    assert_eq!(
        copied.owner.as_ref().and_then(|owner| owner.user.clone()),
        Some(UserOpt::ByName(NamedUserOpt { name: "u".into(), input: 0 }))
    );
    let FileActionKind::MkFile(made) = &file.actions[0].kind else { panic!("a file") };
    assert_eq!(made.mode, 0o644);
    // GHSA-32pv-7hq5-qhwq: `..` goes nowhere.
    let FileActionKind::Rm(removed) = &file.actions[2].kind else { panic!("a removal") };
    assert_eq!(removed.path, "/");
    assert!(matches!(builder.file(FileChain::default(), &VertexOptions::default()), Err(BuildError::Invalid(_))));
}

#[test]
fn paths() {
    for (dir, path, clean, dest) in [
        ("/", "a", "/a", "/a"),
        ("/w", "a/", "/w/a", "/w/a/"),
        ("/w", "/a/.", "/a", "/a/."),
        ("/w", ".", "/w", "/w"),
        ("/w", "/.", "/", "/."),
        ("/w", "../..//b/./c", "/b/c", "/b/c"),
        ("/", "/", "/", "/"),
        ("w", "", "/w", "/w"),
    ] {
        assert_eq!(clean_path(dir, path), clean, "{dir} {path}");
        assert_eq!(clean_dest(dir, path), dest, "{dir} {path}");
    }
}

#[test]
fn a_builder_has_limits_and_knows_its_own() {
    let limits = Limits { ops: 1, ..Limits::HOSTILE };
    let mut small = GraphBuilder::new(Platform::new("linux", "amd64", ""), limits);
    let none = VertexOptions::default();
    small.source(SourceOp::new(SourceScheme::Local, "a"), &none).expect("the first");
    assert_eq!(
        small.source(SourceOp::new(SourceScheme::Local, "b"), &none),
        Err(BuildError::TooManyVertices { limit: 1 })
    );
    let mut other = builder();
    let (_, foreign) = (local(&mut other, "a"), local(&mut other, "b"));
    assert_eq!(small.marshal(Some(foreign)), Err(BuildError::ForeignState));
    let lost = VertexOptions { locations: vec![Location { source_index: 0, ranges: vec![] }], ..none };
    assert_eq!(
        other.source(SourceOp::new(SourceScheme::Local, "a"), &lost),
        Err(BuildError::NoSuchText { index: 0, count: 0 })
    );
}

#[test]
fn sources_ask_for_what_they_use() {
    let caps = |source: SourceOp| {
        let mut builder = builder();
        let state = builder.source(source, &VertexOptions::default()).expect("valid");
        let definition = builder.marshal(Some(state)).expect("valid");
        let has_platform = builder.op(state).expect("ours").platform.is_some();
        let metadata: &BTreeMap<_, _> = &definition.metadata[&builder.digest(state).expect("ours")].caps;
        (metadata.keys().cloned().collect::<Vec<_>>(), has_platform)
    };
    let image = || SourceOp::new(SourceScheme::Image, "docker.io/library/busybox:latest");
    assert_eq!(caps(image()), (vec!["source.image".to_owned()], true));
    assert_eq!(caps(image().with_attr(attr::IMAGE_RESOLVE_MODE, "local")).0, ["source.image"]);
    assert_eq!(
        caps(image().with_attr(attr::IMAGE_RESOLVE_MODE, "pull")).0,
        ["source.image", "source.image.resolvemode"]
    );
    let http = SourceOp::new(SourceScheme::Https, "example.com/x").with_attr(attr::HTTP_UID, "1");
    assert_eq!(caps(http), (vec!["soruce.http.uidgid".to_owned(), "source.http".to_owned()], false));
    let git =
        SourceOp::new(SourceScheme::Git, "example.com/x").with_attr(attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN");
    assert_eq!(caps(git.clone()).0, ["source.git"]);
    assert_eq!(caps(git.with_attr(attr::GIT_AUTH_TOKEN_SECRET, "MINE")).0, ["source.git", "source.git.httpauth"]);
}
