//! Bytes of an enemy: an error, in bounded time and memory, never a panic (CVE-2024-23650, GHSA-qx3x-mv6r-52p6, GHSA-7236-3392-c5c6).
use bytes::Bytes;
use proptest::prelude::*;
use rhost_llb::*;
use serde_json::Value;

use crate::golden::{builder, platform, steps};

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

fn decode(bytes: &[u8]) -> Result<Op, DecodeError> {
    Op::decode(bytes, &Budget::new(1 << 20, 16))
}

fn exec(rest: &[u8]) -> Vec<u8> {
    field(2, rest)
}

#[test]
fn enums_are_closed() {
    let error = decode(&exec(&[4 << 3, 2])).expect_err("security mode 2");
    assert_eq!(error, DecodeError::UnknownEnum { message: "ExecOp", name: "SecurityMode", value: 2 });
    let negative = [&[4 << 3][..], &[0xff; 9], &[1]].concat();
    assert!(matches!(decode(&exec(&negative)), Err(DecodeError::UnknownEnum { value: -1, .. })));
    assert!(matches!(decode(&exec(&[3 << 3, 3])), Err(DecodeError::UnknownEnum { name: "NetMode", .. })));
}

#[test]
fn broken_wire() {
    assert_eq!(decode(&[0x0a]), Err(DecodeError::Truncated { message: "Op" }));
    assert_eq!(decode(&[0x0a, 5, 1]), Err(DecodeError::Truncated { message: "Op" }));
    assert_eq!(decode(&[0xff; 11]), Err(DecodeError::Varint { message: "Op" }));
    assert_eq!(decode(&[0x0d, 0, 0, 0, 0]), Err(DecodeError::WireType { message: "Op", number: 1, found: 5 }));
    assert_eq!(decode(&[99 << 1 | 1, 1]), Err(DecodeError::WireType { message: "Op", number: 24, found: 7 }));
    assert!(matches!(decode(&field(15, b"x")), Err(DecodeError::UnknownField { number: 15, .. })));
    assert!(matches!(decode(&[0x08, 1]), Err(DecodeError::WireType { .. })));
    assert!(matches!(decode(&field(3, &field(1, &[0xff]))), Err(DecodeError::Utf8 { .. })));
    assert!(matches!(decode(&field(1, &field(1, b"sha256:x"))), Err(DecodeError::Digest { .. })));
    // Mount.secretOpt.uid, 35 bits.
    let uid = [2 << 3, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let secret = [&[0xaa, 0x01, uid.len() as u8][..], &uid].concat();
    let error = decode(&exec(&field(2, &secret))).expect_err("no uid32");
    assert_eq!(error, DecodeError::OutOfRange { message: "SecretOpt", number: 2, wanted: "uint32" });
}

#[test]
fn memory_and_depth_are_bounded() {
    // Two bytes on the wire, hundreds in memory.
    let mounts: Vec<u8> = std::iter::repeat_n([2 << 3 | 2, 0], 100_000).flatten().collect();
    assert!(matches!(decode(&exec(&mounts)), Err(DecodeError::TooLarge { .. })));
    let mut nested = Vec::new();
    for _ in 0..200 {
        // Definition.Source.infos.definition
        nested = field(3, &field(2, &field(3, &nested)));
    }
    let error = Definition::decode(&nested, &Limits::HOSTILE).expect_err("too deep");
    assert!(matches!(error, DecodeError::TooDeep { limit: 16, .. }), "{error}");
    let small = Limits { encoded: 10, ..Limits::HOSTILE };
    assert!(matches!(Definition::decode(&[0; 11], &small), Err(DecodeError::TooLarge { .. })));
}

fn definition(ops: &[Op]) -> Definition {
    Definition { def: ops.iter().map(|op| op.encode().into()).collect(), ..Definition::default() }
}

fn head(op: &Op, index: i64) -> Op {
    Op { inputs: vec![Input { digest: op.digest(), index }], ..Op::default() }
}

fn source(name: &str) -> Op {
    Op { kind: Some(OpKind::Source(SourceOp::new(SourceScheme::Local, name))), ..Op::default() }
}

fn load(ops: &[Op]) -> Result<Graph, LoadError> {
    Graph::load(&definition(ops), &Limits::HOSTILE)
}

#[test]
fn graphs_that_are_none() {
    let a = source("a");
    assert!(matches!(load(&[]), Err(LoadError::Empty)));
    assert!(matches!(load(std::slice::from_ref(&a)), Err(LoadError::Head)));
    assert!(matches!(load(&[head(&a, 0)]), Err(LoadError::MissingInput { .. })));
    assert!(matches!(load(&[a.clone(), head(&a, 1)]), Err(LoadError::NoSuchOutput { found: 1, count: 1, .. })));
    assert!(matches!(load(&[a.clone(), head(&a, -1)]), Err(LoadError::NoSuchOutput { found: -1, .. })));
    assert!(matches!(load(&[Op::default(), head(&Op::default(), 0)]), Err(LoadError::Invalid { .. })));
    let few = Limits { ops: 1, ..Limits::HOSTILE };
    let two = definition(&[a.clone(), source("b"), head(&a, 0)]);
    assert!(matches!(Graph::load(&two, &few), Err(LoadError::TooManyOps { found: 2, most: 1 })));
    let mut caps = definition(&[a.clone(), head(&a, 0)]);
    caps.metadata.entry(a.digest()).or_default().caps.insert("source.warp".into(), true);
    assert!(
        matches!(Graph::load(&caps, &Limits::HOSTILE), Err(LoadError::UnknownCap { cap, .. }) if cap == "source.warp")
    );
    let mut texts = definition(&[a.clone(), head(&a, 0)]);
    let location = Location { source_index: 0, ranges: vec![] };
    texts.source.get_or_insert_default().locations.insert(a.digest(), Locations { locations: vec![location] });
    assert!(matches!(Graph::load(&texts, &Limits::HOSTILE), Err(LoadError::NoSuchText { index: 0, count: 0, .. })));
}

fn with_input(kind: OpKind) -> Op {
    Op { inputs: vec![Input { digest: source("a").digest(), index: 0 }], kind: Some(kind), ..Op::default() }
}

fn invalid(op: &Op) -> ValidateError {
    check_op(op, &Limits::HOSTILE).expect_err("invalid")
}

#[test]
fn ops_that_are_none() {
    let missing = |op: &Op, wanted: &str| match invalid(op) {
        ValidateError::Missing { what, .. } => assert_eq!(what, wanted),
        other => panic!("{other}"),
    };
    missing(&with_input(OpKind::Exec(ExecOp::default())), "meta");
    let meta = Meta { args: vec!["x".into()], ..Meta::default() };
    let exec =
        |mounts: Vec<Mount>| with_input(OpKind::Exec(ExecOp { meta: Some(meta.clone()), mounts, ..ExecOp::default() }));
    let root = Mount { dest: "/".into(), ..Mount::default() };
    missing(&with_input(OpKind::Exec(ExecOp { meta: Some(Meta::default()), ..ExecOp::default() })), "arguments");
    missing(&exec(vec![]), "a mount at /");
    assert_eq!(check_op(&exec(vec![root.clone()]), &Limits::HOSTILE), Ok(()));
    for input in [-2, 1, i64::MAX, i64::MIN] {
        let bad = exec(vec![Mount { input, ..root.clone() }]);
        assert!(matches!(invalid(&bad), ValidateError::Index { .. }), "{input}");
    }
    let same_output = exec(vec![root.clone(), Mount { dest: "/m".into(), ..root.clone() }]);
    assert_eq!(invalid(&same_output), ValidateError::Outputs { op: "exec" });
    let typed = |mount_type| {
        exec(vec![root.clone(), Mount { dest: "/m".into(), input: -1, output: -1, mount_type, ..Mount::default() }])
    };
    missing(&typed(MountType::Cache), "options of a cache mount");
    missing(&typed(MountType::Secret), "the id of a secret");
    missing(&typed(MountType::Ssh), "options of an ssh mount");
    // BuildKit's client leaves the output of secrets at 0.
    let secret = Mount {
        dest: "/s".into(),
        input: -1,
        mount_type: MountType::Secret,
        secret_opt: Some(SecretOpt { id: "s".into(), ..SecretOpt::default() }),
        ..Mount::default()
    };
    assert_eq!(check_op(&exec(vec![root.clone(), secret]), &Limits::HOSTILE), Ok(()));

    missing(&with_input(OpKind::File(FileOp::default())), "actions");
    let action = |input, secondary_input, output, kind| FileAction { input, secondary_input, output, kind };
    let mkdir = FileActionKind::MkDir(FileActionMkDir { path: "/a".into(), ..FileActionMkDir::default() });
    let file = |actions| with_input(OpKind::File(FileOp { actions }));
    missing(&file(vec![action(0, -1, -1, mkdir.clone())]), "an output");
    missing(&file(vec![action(0, -1, 0, FileActionKind::Missing)]), "an action's content");
    let itself = file(vec![action(1, -1, 0, mkdir.clone())]);
    assert!(matches!(invalid(&itself), ValidateError::Index { found: 1, most: 0, .. }));
    let chain = file(vec![action(0, -1, -1, mkdir.clone()), action(1, -1, 0, mkdir)]);
    assert_eq!(check_op(&chain, &Limits::HOSTILE), Ok(()));

    missing(&with_input(OpKind::Merge(MergeOp::default())), "inputs");
    missing(&with_input(OpKind::Diff(DiffOp::default())), "lower");
    missing(&with_input(OpKind::Passthrough(PassthroughOp::default())), "id");
    let bad = PassthroughOp { id: "p".into(), outputs: vec![1] };
    assert!(matches!(invalid(&with_input(OpKind::Passthrough(bad))), ValidateError::Index { .. }));
    assert!(matches!(
        invalid(&with_input(OpKind::Build(BuildOp::default()))),
        ValidateError::Index { what: "builder", .. }
    ));
    let scheme = Op {
        kind: Some(OpKind::Source(SourceOp { identifier: "file:///etc".into(), ..SourceOp::default() })),
        ..Op::default()
    };
    assert!(matches!(invalid(&scheme), ValidateError::Text { .. }));
}

#[test]
fn a_long_chain_is_no_recursion() {
    let mut builder = builder();
    let none = VertexOptions::default();
    let mut state = builder.source(SourceOp::new(SourceScheme::Local, "a"), &none).expect("valid");
    for _ in 0..20_000 {
        state = builder.passthrough("p", &[state], &[0], &none).expect("valid")[0];
    }
    let definition = builder.marshal(Some(state)).expect("valid");
    let graph = Graph::load(&definition, &Limits::HOSTILE).expect("valid");
    assert_eq!(graph.vertices().len(), 20_001);
}

#[test]
fn names_do_not_explode() {
    let mut builder = builder();
    let none = VertexOptions::default();
    let mut state = builder.source(SourceOp::new(SourceScheme::Local, "a"), &none).expect("valid");
    for _ in 0..60 {
        state = builder.merge(&[Some(state), Some(state)], &none).expect("valid").expect("two layers");
    }
    let graph = Graph::load(&builder.marshal(Some(state)).expect("valid"), &Limits::HOSTILE).expect("valid");
    assert!(graph.vertices().iter().all(|vertex| vertex.name.chars().count() <= 1001));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        if let Ok(definition) = Definition::decode(&bytes, &Limits::HOSTILE) {
            let _ = Graph::load(&definition, &Limits::HOSTILE);
            let _ = definition.to_json();
        }
    }

    #[test]
    fn a_good_definition_with_a_few_bytes_changed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let golden: Value = serde_json::from_str(include_str!("golden/dockerfile2.convertllb.json")).expect("JSON");
        let (builder, head) = steps(&golden);
        let mut definition = builder.marshal(Some(head)).expect("valid");
        // Within one op: bytes of a hostile author, whose digests fit because nobody else has them.
        for (place, byte) in changes {
            let op = definition.def.len() - 2;
            let mut bytes = definition.def[op].to_vec();
            let at = place.index(bytes.len());
            bytes[at] = byte;
            definition.def[op] = Bytes::from(bytes);
        }
        let op = Bytes::copy_from_slice(&definition.def[definition.def.len() - 2]);
        let last = definition.def.len() - 1;
        let input = Input { digest: VertexDigest(Digest::of(&op)), index: 0 };
        definition.def[last] = Op { inputs: vec![input], ..Op::default() }.encode().into();
        if let Ok(graph) = Graph::load(&definition, &Limits::HOSTILE) {
            for vertex in graph.vertices() {
                let _ = cache_key::cache_map(&vertex.op, &platform());
            }
            let _ = graph.to_dot();
        }
    }

    #[test]
    fn what_is_read_is_written_again(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(op) = decode(&bytes) {
            prop_assert_eq!(decode(&op.encode()), Ok(op));
        }
    }
}
