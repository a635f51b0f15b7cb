//! The graphs that BuildKit v0.32.2 makes of two Dockerfiles, rebuilt with the builder: same bytes, same metadata, same source map.
use rhost_llb::*;
use serde_json::Value;

pub fn platform() -> Platform {
    Platform::new("linux", "amd64", "")
}

pub fn builder() -> GraphBuilder {
    GraphBuilder::new(platform(), Limits::HOSTILE)
}

fn context(session: &str, follow: Option<&str>) -> SourceOp {
    let source = SourceOp::new(SourceScheme::Local, "context")
        .with_attr(attr::LOCAL_SESSION, session)
        .with_attr(attr::LOCAL_SHARED_KEY_HINT, "context");
    match follow {
        Some(follow) => source.with_attr(attr::LOCAL_FOLLOW_PATHS, follow),
        None => source,
    }
}

pub fn copy(src: &str, dest: &str) -> FileActionCopy {
    FileActionCopy {
        src: src.into(),
        dest: dest.into(),
        mode: -1,
        follow_symlink: true,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: -1,
        ..FileActionCopy::default()
    }
}

fn chain(base: Option<State>, from: State, copies: impl IntoIterator<Item = FileActionCopy>) -> FileChain {
    let steps = copies.into_iter().map(|copy| FileStep::Copy { from: CopyFrom::State(Some(from)), copy });
    FileChain { base, steps: steps.collect() }
}

fn dockerfile(builder: &mut GraphBuilder, golden: &Value, session: &str) {
    let mut nested = self::builder();
    let source = SourceOp::new(SourceScheme::Local, "dockerfile")
        .with_attr(attr::LOCAL_DIFFER, "none")
        .with_attr(attr::LOCAL_FOLLOW_PATHS, r#"["Dockerfile","Dockerfile.dockerignore","dockerfile"]"#)
        .with_attr(attr::LOCAL_SESSION, session)
        .with_attr(attr::LOCAL_SHARED_KEY_HINT, "dockerfile");
    let name = VertexOptions::named("[internal] load build definition from Dockerfile");
    let state = nested.source(source, &name).expect("valid");
    let text = golden["source"]["infos"][0]["data"].as_str().expect("the text");
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.decode(text).expect("base64").into();
    let definition = Some(Box::new(nested.marshal(Some(state)).expect("valid")));
    let index = builder.add_source_info(SourceInfo {
        filename: "Dockerfile".into(),
        data,
        definition,
        language: "Dockerfile".into(),
    });
    assert_eq!(index, 0);
}

fn at(line: i32, mut options: VertexOptions) -> VertexOptions {
    options.locations = vec![Location { source_index: 0, ranges: vec![Range::lines(line, line)] }];
    options
}

fn check(builder: &GraphBuilder, head: State, golden: &Value) -> Definition {
    let definition = builder.marshal(Some(head)).expect("valid");
    let found = definition.to_json().expect("our own bytes");
    for part in ["def", "metadata", "source"] {
        let (found, wanted) = (&found[part], &golden[part]);
        assert_eq!(found, wanted, "{part}: {found:#}\nwanted {wanted:#}");
    }
    let wire = definition.encode();
    let again = Definition::decode(&wire, &Limits::HOSTILE).expect("our own bytes");
    assert_eq!(again, definition);
    assert_eq!(again.encode(), wire);
    definition
}

#[test]
fn copies_and_link() {
    let golden: Value = serde_json::from_str(include_str!("golden/dockerfile1.convertllb.json")).expect("JSON");
    let session = "s2wb4nx01vb2psqscl7cdhcai";
    let mut builder = builder();
    dockerfile(&mut builder, &golden, session);
    let context = builder
        .source(context(session, Some(r#"["a","b"]"#)), &VertexOptions::named("[internal] load build context"))
        .expect("valid");
    let a = builder
        .file(chain(None, context, [copy("/a", "/a")]), &at(2, VertexOptions::named("[1/2] COPY a /a")))
        .expect("valid");
    let group = |weak| {
        Some(ProgressGroup { id: "2izyp9qxsueypgexsxgkurfem".into(), name: "[2/2] COPY --link b /d/b".into(), weak })
    };
    let weak = VertexOptions { progress_group: group(true), ..VertexOptions::named("[2/2] COPY --link b /d/b") };
    let b = builder.file(chain(None, context, [copy("b", "/d/b")]), &at(3, weak)).expect("valid");
    let strong =
        VertexOptions { progress_group: group(false), ..VertexOptions::named("[2/2] LINK COPY --link b /d/b") };
    let merged = builder.merge(&[Some(a), Some(b)], &at(3, strong)).expect("valid").expect("two layers");
    let definition = check(&builder, merged, &golden);

    let graph = Graph::load(&definition, &Limits::HOSTILE).expect("valid");
    assert_eq!(graph.vertices().len(), 4);
    assert_eq!(
        graph.head().vertex.to_string(),
        "sha256:4d4a93c54d5f3e4de56b179d09cf01e2c940718ab03f21716d762f5383f3e82b"
    );
    assert!(graph.to_dot().contains("[2/2] LINK COPY --link b /d/b"));
}

fn meta(args: &[&str]) -> Meta {
    Meta {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(), "FOO=a<b".into()],
        cwd: "/w".into(),
        ..Meta::default()
    }
}

fn run(line: i32, number: u8, command: &str) -> VertexOptions {
    let mut options = VertexOptions::named(format!("[base {number}/6] {command}"));
    options.description.insert("com.docker.dockerfile.v1.command".into(), command.into());
    at(line, options)
}

#[test]
fn steps_with_every_kind_of_mount() {
    let golden: Value = serde_json::from_str(include_str!("golden/dockerfile2.convertllb.json")).expect("JSON");
    let (builder, head) = steps(&golden);
    check(&builder, head, &golden);
}

/// The second golden graph.
pub fn steps(golden: &Value) -> (GraphBuilder, State) {
    let session = "kis9ji8kbdy4ebzvq73hr95t9";
    let mut builder = builder();
    dockerfile(&mut builder, golden, session);
    let context =
        builder.source(context(session, None), &VertexOptions::named("[internal] load build context")).expect("valid");
    let busybox = builder
        .file(
            chain(None, context, [copy("/busybox", "/bin/busybox")]),
            &at(2, VertexOptions::named("[base 1/6] COPY busybox /bin/busybox")),
        )
        .expect("valid");
    let mkdir = FileActionMkDir {
        path: "w/".into(),
        mode: 0o755,
        make_parents: true,
        timestamp: -1,
        ..FileActionMkDir::default()
    };
    let workdir = builder
        .file(
            FileChain { base: Some(busybox), steps: vec![FileStep::MkDir(mkdir)] },
            &at(3, VertexOptions::named("[base 2/6] WORKDIR /w")),
        )
        .expect("valid");
    let spec = ExecSpec { meta: meta(&["/bin/busybox", "true"]), root: Some(workdir), ..ExecSpec::default() };
    let first = builder.exec(spec, &run(5, 3, r#"RUN ["/bin/busybox","true"]"#)).expect("valid").root;
    let mount = |dest: &str, kind| ExecMount {
        dest: dest.into(),
        source: None,
        selector: String::new(),
        readonly: false,
        kind,
        content_cache: ContentCache::Default,
    };
    let spec = ExecSpec {
        meta: meta(&["/bin/busybox", "touch", "/x"]),
        root: first,
        // Out of order: the builder sorts.
        mounts: vec![
            mount("/t", ExecMountKind::Tmpfs { size: 0 }),
            mount("/c", ExecMountKind::Cache { id: "//c".into(), sharing: CacheSharing::Shared }),
        ],
        secrets: vec![ExecSecret {
            dest: "/run/secrets/s".into(),
            options: SecretOpt { id: "s".into(), mode: 0o400, ..SecretOpt::default() },
        }],
        network: NetMode::None,
        ..ExecSpec::default()
    };
    let command = "RUN --mount=type=cache,target=/c --mount=type=secret,id=s,required --mount=type=tmpfs,target=/t --network=none [\"/bin/busybox\",\"touch\",\"/x\"]";
    let outputs = builder.exec(spec, &run(6, 4, command)).expect("valid");
    assert_eq!(outputs.mounts, [None, None]);
    let owner = Some(ChownOpt { user: Some(UserOpt::ById(1)), group: Some(UserOpt::ById(2)) });
    let owned = |src| FileActionCopy { owner: owner.clone(), mode: 0o600, ..copy(src, "/a2/") };
    let copied = builder
        .file(
            chain(outputs.root, context, [owned("/a"), owned("/sub")]),
            &at(7, VertexOptions::named("[base 5/6] COPY --chown=1:2 --chmod=600 a sub /a2/")),
        )
        .expect("valid");
    let bind = ExecMount {
        source: Some(context),
        selector: "/sub".into(),
        readonly: true,
        ..mount("/m", ExecMountKind::Bind)
    };
    let spec = ExecSpec {
        meta: meta(&["/bin/busybox", "cat", "/m/a"]),
        root: Some(copied),
        mounts: vec![bind],
        ..ExecSpec::default()
    };
    let command = r#"RUN --mount=type=bind,target=/m,source=sub ["/bin/busybox","cat","/m/a"]"#;
    let head = builder.exec(spec, &run(8, 6, command)).expect("valid").root.expect("a writable root");
    (builder, head)
}
