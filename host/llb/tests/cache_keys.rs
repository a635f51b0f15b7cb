//! Cache keys against those that BuildKit has exported (spec appendix 1).
use std::collections::BTreeMap;

use rhost_llb::cache_key::*;
use rhost_llb::*;
use serde_json::Value;

use crate::golden::{builder, copy, platform, steps};

fn maps(builder: &GraphBuilder, head: State) -> BTreeMap<String, CacheMap> {
    let graph = Graph::load(&builder.marshal(Some(head)).expect("valid"), &Limits::HOSTILE).expect("valid");
    let keyed = graph.vertices().iter().filter(|vertex| !matches!(vertex.kind(), OpKind::Source(_)));
    keyed.map(|vertex| (vertex.name.clone(), cache_map(&vertex.op, &platform()).expect("a key"))).collect()
}

#[test]
fn steps_and_files_have_the_keys_that_buildkit_exports() {
    let golden: Value = serde_json::from_str(include_str!("golden/dockerfile2.convertllb.json")).expect("JSON");
    let (builder, head) = steps(&golden);
    let maps = maps(&builder, head);
    let key = |prefix: &str| {
        let map = maps.iter().find(|(name, _)| name.starts_with(prefix)).expect("a vertex").1;
        record_key(&map.digest, 0).hex()
    };
    for (prefix, wanted) in [
        ("[base 1/6]", "1616bd1ac1dfad8027ee4877ba75520a6e05433e5ba19e7b8bbbbb094a8c3412"),
        ("[base 2/6]", "f6515d8afd8f2d2ce6612a1d4492f88887feb327524d76cfd0f4c19c328711c2"),
        ("[base 3/6]", "d952d875d6fa4712b9f25cdcc19d3d21965f7fbd5926a566be87ffdbceb23cd4"),
        ("[base 4/6]", "9df12dcdd68b4329b45a63fa4145cdb449c64f2ec76bb11fe7c8dcdbfe2aaa38"),
        ("[base 5/6]", "eecb9908fb276b9f762a1733d6afa54faf18ab0ac9e4a95f4a2300d061e984cf"),
        ("[base 6/6]", "52ffaeffe04700385b6ae6f4de9582293fa64d31db9e353af017faea442526b1"),
    ] {
        assert_eq!(key(prefix), wanted, "{prefix}");
    }
    let root = Digest::of("/");
    assert_eq!(root.hex(), "8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1");
    let last = maps.iter().find(|(name, _)| name.starts_with("[base 6/6]")).expect("a vertex").1;
    assert_eq!(last.deps[0], Dep { selector: Some(root), content: None });
    let sub = Selector { path: "/sub".into(), follow_links: true, ..Selector::default() };
    assert_eq!(last.deps[1].content.as_deref(), Some(&[sub][..]));
    let copied = maps.iter().find(|(name, _)| name.starts_with("[base 5/6]")).expect("a vertex").1;
    assert_eq!(copied.deps[0], Dep::default());
    let paths: Vec<_> = copied.deps[1].content.iter().flatten().map(|selector| selector.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/sub"]);
    assert_eq!(copied.deps[1].selector, Some(Digest::of("/sub\0/a")));
}

#[test]
fn merges_and_scratch_copies() {
    let mut builder = builder();
    let none = VertexOptions::default();
    let source = builder.source(SourceOp::new(SourceScheme::Local, "context"), &none).expect("valid");
    let mut layer = |src: &str, dest: &str| {
        let step = FileStep::Copy { from: CopyFrom::State(Some(source)), copy: copy(src, dest) };
        builder.file(FileChain { base: None, steps: vec![step] }, &none).expect("valid")
    };
    let (a, b) = (layer("/a", "/a"), layer("/b", "/d/b"));
    let merged = builder.merge(&[Some(a), None, Some(b)], &none).expect("valid").expect("two layers");
    let key =
        |state| record_key(&cache_map(builder.op(state).expect("ours"), &platform()).expect("a key").digest, 0).hex();
    assert_eq!(key(a), "26da9ad77b346ebfc238bc618ec8a219818ef86e18984907fab158a75df1954a");
    assert_eq!(key(b), "6393297cf22d185349308c21e97c426dde10fe380bba319b1bfbab81099dbef4");
    assert_eq!(key(merged), "5dbfbafede47210a7bd7363461bc885ec7310febe761daffdf666bfdae5970ff");
}

#[test]
fn content_of_files() {
    let file = Digest::of("namemode420uid0gid0size5typeflag0linknameunamegnamedevmajor0devminor0hello");
    let key = content_key(content_digest(&[file])).hex();
    assert_eq!(key, "693fd8fbbc7209e12b78a791b6bc69c70553da70a6b47af0621e31290e7a1912");
}

#[test]
fn images_are_keyed_by_manifest_and_by_chain() {
    let manifest: Digest =
        "sha256:bec4c0e335de7af2cb4a642925b2158aef75d85fb92e67c1b2c6b30f41e5f88b".parse().expect("a digest");
    let key = image_manifest_key(manifest, &platform(), None);
    let json = format!(r#"{{"Digest":"{manifest}","OS":"linux","Arch":"amd64"}}"#);
    assert_eq!(key, Digest::of(json).to_string());
    assert!(key.starts_with("sha256:"));
    assert_ne!(source_digest(&key), source_digest("sha256:other"));
}

#[test]
fn what_is_bound_to_a_session_says_so() {
    let digest = source_digest("session:context:abc");
    assert!(digest.session);
    assert!(digest.to_string().starts_with("random:"));
    assert!(!source_digest("abc").session);
}

fn exec(change: impl FnOnce(&mut ExecOp)) -> Result<CacheMap, CacheKeyError> {
    let root = Mount { dest: "/".into(), ..Mount::default() };
    let meta = Meta { args: vec!["a".into()], cwd: "/".into(), ..Meta::default() };
    let mut exec = ExecOp { meta: Some(meta), mounts: vec![root], ..ExecOp::default() };
    change(&mut exec);
    let input = Input { digest: VertexDigest(Digest::of("x")), index: 0 };
    let op = Op { inputs: vec![input.clone(), input], kind: Some(OpKind::Exec(exec)), ..Op::default() };
    cache_map(&op, &platform())
}

#[test]
fn what_enters_an_execs_key_and_what_does_not() {
    let base = exec(|_| {}).expect("a key").digest;
    let with = |change: fn(&mut ExecOp)| exec(change).expect("a key").digest;
    let meta = |exec: &mut ExecOp| exec.meta.clone().expect("a process");
    assert_eq!(base, with(|exec| exec.meta.as_mut().expect("a process").proxy_env = Some(ProxyEnv::default())));
    assert_ne!(base, with(|exec| exec.network = NetMode::Host));
    assert_ne!(base, with(|exec| exec.security = SecurityMode::Insecure));
    assert_ne!(base, with(|exec| exec.mounts[0].readonly = true));
    assert_ne!(base, with(|exec| exec.meta.as_mut().expect("a process").user = "1".into()));
    let host = |ip: &str| {
        exec(|exec| {
            let mut changed = meta(exec);
            changed.extra_hosts = vec![HostIp { host: "h".into(), ip: ip.into() }];
            exec.meta = Some(changed);
        })
        .expect("a key")
        .digest
    };
    assert_eq!(host("1.2.3.4"), host("5.6.7.8"));
    assert_ne!(host("1.2.3.4"), base);
    let cache = |id: &str, sharing| {
        exec(|exec| {
            exec.mounts.push(Mount {
                input: EMPTY_INPUT,
                output: NO_OUTPUT,
                dest: "/c".into(),
                mount_type: MountType::Cache,
                cache_opt: Some(CacheOpt { id: id.into(), sharing }),
                ..Mount::default()
            });
        })
        .expect("a key")
        .digest
    };
    assert_eq!(cache("mine", CacheSharing::Shared), cache("yours", CacheSharing::Locked));
    assert_ne!(cache("mine", CacheSharing::Shared), cache("/c", CacheSharing::Shared));
    assert_eq!(cache("/c", CacheSharing::Locked), cache("mine", CacheSharing::Shared));
}

#[test]
fn a_mount_is_hashed_only_where_that_is_safe() {
    let deps = |change: fn(&mut Mount)| {
        exec(|exec| {
            let mut mount =
                Mount { input: 1, output: 1, dest: "/m".into(), selector: "sub/..//dir".into(), ..Mount::default() };
            change(&mut mount);
            exec.mounts.push(mount);
        })
        .map(|map| {
            map.deps[1].content.as_ref().map(|selectors| selectors.iter().map(|s| s.path.clone()).collect::<Vec<_>>())
        })
    };
    assert_eq!(deps(|_| {}), Ok(None));
    assert_eq!(deps(|mount| mount.output = NO_OUTPUT), Ok(Some(vec!["/dir".into()])));
    assert_eq!(deps(|mount| mount.readonly = true), Ok(Some(vec!["/dir".into()])));
    assert_eq!(deps(|mount| mount.selector.clear()), Ok(Some(vec![String::new()])));
    let off = |mount: &mut Mount| (mount.readonly, mount.content_cache) = (true, ContentCache::Off);
    assert_eq!(deps(off), Ok(None));
    assert_eq!(
        deps(|mount| mount.content_cache = ContentCache::On),
        Err(CacheKeyError::UnsafeContentCache { dest: "/m".into() })
    );
}

/// What `buildctl build --export-cache` of v0.32.2 wrote for `ADD http://127.0.0.1:PORT/f.txt /d/` of a file that says `hello`.
#[test]
fn a_file_at_a_url_has_the_key_that_buildkit_exports() {
    let key = HttpKey {
        filename: "f.txt".into(),
        checksum: Digest::of("hello").to_string(),
        last_modified: "Sun, 06 Nov 1994 08:49:37 GMT".into(),
        ..HttpKey::default()
    };
    let wanted = "0ff9c82bf907e66dd07560fc7742423c8c67a1ca707b9eefd54a04c278392560";
    assert_eq!(record_key(&source_digest(&http_key(&key)), 0).hex(), wanted);
    // What was not said is not in it.
    let other = |change: &dyn Fn(&mut HttpKey)| {
        let mut other = key.clone();
        change(&mut other);
        http_key(&other) != http_key(&key)
    };
    assert!(other(&|key| key.perm = 0o644) && other(&|key| key.uid = 1) && other(&|key| key.last_modified.clear()));
    assert!(other(&|key| key.auth_header_secret = "id".into()));
    assert!(other(&|key| key.headers = vec![("Accept".into(), "text/plain".into())]));
}
