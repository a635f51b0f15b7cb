//! Graph and file operations on a real store, without images: what LLB says a tree is, found in it.
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock};

use rhost_llb::{
    CopyFrom, Definition, FileAction, FileActionCopy, FileActionKind, FileActionMkDir, FileActionMkFile, FileActionRm,
    FileChain, FileOp, FileStep, Graph as LlbGraph, GraphBuilder, Input, Limits, Op, OpKind, Platform, SourceOp,
    SourceScheme, State, VertexOptions,
};
use rhost_registry::{Client, ClientOptions, NoCredentials, Proxies, RegistryConfig};
use rhost_rootfs::{OverlayXattrs, OwnerPolicy, Tree};
use rhost_solver::{Edge, Graph, MemoryCache, Solver};
use rhost_store::{Durability, Store, StoreOptions};

use crate::downloads::Downloads;
use crate::emulation::Emulation;
use crate::event::Events;
use crate::explain::Explainer;
use crate::git::{Git, GitOptions, GitSettings};
use crate::images::Images;
use crate::layers::Layers;
use crate::once::Once;
use crate::shared::Shared;
use crate::value::Value;

/// A store, a solver, and a local directory `ctx`.
pub(super) struct Room {
    dir: tempfile::TempDir,
    pub(super) shared: Arc<Shared>,
    solver: Solver<Value>,
    runtime: tokio::runtime::Runtime,
}

/// `None`, said aloud, where overlays cannot be mounted.
pub(super) fn room() -> Option<Room> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "cannot run here: overlay mounts need root");
        eprintln!("SKIP: overlay mounts need root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { durability: Durability::Fast, overlay: OverlayXattrs::Trusted };
    let store = Store::open(dir.path().join("store"), options).unwrap();
    std::fs::create_dir(dir.path().join("ctx")).unwrap();
    let client = Client::new(RegistryConfig::default(), Arc::new(NoCredentials), ClientOptions::standard()).unwrap();
    let owners = OwnerPolicy::Exact;
    let git = GitOptions { programs: ["/usr/bin", "/bin"].map(Into::into).to_vec(), known_hosts: None };
    let once = Arc::new(Once::new(store.clone(), Events::none()));
    let pins = Arc::new(crate::lock::Pins::new(crate::lock::SourceRules::default(), None, store.clone()));
    let shared = Arc::new(Shared {
        layers: Arc::new(Layers::new(store.clone(), owners, Events::none(), once.clone())),
        once,
        emulation: Arc::new(Emulation::new(Vec::new())),
        git: Git::new(git, Proxies::default(), &GitSettings::default()),
        downloads: Downloads::new(client.clone(), false),
        uploads: BTreeMap::new(),
        rules: Arc::default(),
        images: Images::new(store.clone(), client, BTreeMap::new(), Arc::default(), pins.clone()),
        pins,
        explainer: Arc::new(Explainer::new(store.clone(), Events::none(), Platform::host(), false)),
        store,
        events: Events::none(),
        host: Platform::host(),
        lent: Arc::default(),
        modes: rhost_rootfs::Modes::AsTheyAre,
        locals: BTreeMap::from([("ctx".into(), dir.path().join("ctx"))]),
        fetched: OnceLock::new(),
        owners,
        vertices: Mutex::default(),
    });
    let solver = Solver::new(Arc::new(MemoryCache::default()), NonZeroUsize::new(2).unwrap(), drop);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    Some(Room { dir, shared, solver, runtime })
}

impl Room {
    pub(super) fn solve(&self, definition: &Definition, output: usize) -> Value {
        self.try_solve(definition, output).unwrap()
    }

    /// What a definition that cannot be solved ends with.
    pub(super) fn fail(&self, definition: &Definition) -> String {
        self.try_solve(definition, 0).err().unwrap()
    }

    fn try_solve(&self, definition: &Definition, output: usize) -> Result<Value, String> {
        let graph = LlbGraph::load(definition, &Limits::HOSTILE).unwrap();
        let solvable = Graph::new(super::graph(&self.shared, &graph, &super::Nest::default()).unwrap()).unwrap();
        let edge = Edge { vertex: graph.head().vertex, output };
        let solved = self.runtime.block_on(self.solver.solve(&solvable, &[edge]));
        solved.map(|mut values| values.remove(0)).map_err(|error| match error {
            rhost_solver::SolveError::Op { error, .. } => error.to_string(),
            other => other.to_string(),
        })
    }

    pub(super) fn build(&self, make: impl FnOnce(&mut GraphBuilder) -> Option<State>) -> Value {
        self.try_build(make).unwrap()
    }

    pub(super) fn try_build(&self, make: impl FnOnce(&mut GraphBuilder) -> Option<State>) -> Result<Value, String> {
        let mut builder = GraphBuilder::new(Platform::host(), Limits::HOSTILE);
        let head = make(&mut builder);
        self.try_solve(&builder.marshal(head).unwrap(), 0)
    }

    /// `path = text` of every file, `path/` of every directory without files.
    pub(super) fn list(&self, value: &Value) -> Vec<String> {
        let root = match value {
            Value::Scratch => return Vec::new(),
            Value::Snapshot(id) => {
                self.runtime.block_on(self.shared.present(value)).unwrap();
                self.shared.view(*id).unwrap()
            }
            Value::Context(_) => panic!("a context is no result"),
        };
        let mut found = Vec::new();
        for entry in Tree::of_root(root.clone()).entries().unwrap() {
            let path = entry.path.display().to_string();
            if entry.stat.is_dir() {
                found.push(format!("{path}/"));
            } else {
                let text = root.read(format!("/{path}"), 1000).unwrap();
                found.push(format!("{path} = {}", String::from_utf8_lossy(&text)));
            }
        }
        found
    }

    pub(super) fn layers(&self, value: &Value) -> usize {
        let Value::Snapshot(id) = value else { return 0 };
        self.shared.store.chain(*id).unwrap().unwrap().len()
    }

    fn directories(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("store/snapshots-v1")).unwrap().count()
    }
}

pub(super) fn mkfile(path: &str, text: &str) -> FileStep {
    FileStep::MkFile(FileActionMkFile {
        path: path.into(),
        mode: 0o644,
        data: text.to_owned().into(),
        owner: None,
        timestamp: 5_000_000_000,
    })
}

pub(super) fn mkdir(path: &str) -> FileStep {
    FileStep::MkDir(FileActionMkDir {
        path: path.into(),
        mode: 0o755,
        make_parents: true,
        owner: None,
        timestamp: 5_000_000_000,
    })
}

pub(super) fn rm(path: &str) -> FileStep {
    FileStep::Rm(FileActionRm { path: path.into(), allow_not_found: true, allow_wildcard: false })
}

pub(super) fn files(builder: &mut GraphBuilder, base: Option<State>, steps: Vec<FileStep>) -> State {
    builder.file(FileChain { base, steps }, &VertexOptions::default()).unwrap()
}

#[test]
fn a_merge_stacks_layers_and_its_deletions_delete() {
    let Some(room) = room() else { return };
    let plain = VertexOptions::default();
    let merged = room.build(|b| {
        let base = files(b, None, vec![mkdir("/d"), mkfile("/d/a", "1"), mkfile("/d/b", "2")]);
        let without = files(b, Some(base), vec![rm("/d/a")]);
        let deletion = b.diff(Some(base), Some(without), &plain).unwrap();
        let other = files(b, None, vec![mkdir("/d"), mkfile("/d/a", "other"), mkfile("/x", "x")]);
        b.merge(&[Some(other), deletion], &plain).unwrap()
    });
    assert_eq!(room.list(&merged), ["d/", "x = x"]);
    assert_eq!((room.layers(&merged), room.directories()), (2, 3), "nothing was copied");
    // What was deleted comes back with a later layer; one tree twice is one directory to the kernel.
    let again = room.build(|b| {
        let base = files(b, None, vec![mkdir("/d"), mkfile("/d/a", "1"), mkfile("/d/b", "2")]);
        let without = files(b, Some(base), vec![rm("/d/a")]);
        b.merge(&[Some(base), Some(without), Some(base)], &plain).unwrap()
    });
    assert_eq!(room.list(&again), ["d/", "d/a = 1", "d/b = 2"]);
    assert_eq!((room.layers(&again), room.directories()), (4, 3));
}

#[test]
fn a_deletion_apart_from_what_it_deletes_does_not_show() {
    let Some(room) = room() else { return };
    let plain = VertexOptions::default();
    let deletion = |b: &mut GraphBuilder| {
        let base = files(b, None, vec![mkdir("/d/e"), mkfile("/d/a", "1"), mkfile("/d/e/b", "2")]);
        let without = files(b, Some(base), vec![rm("/d/a"), rm("/d/e/b"), mkfile("/d/c", "c")]);
        b.diff(Some(base), Some(without), &plain).unwrap()
    };
    let alone = room.build(deletion);
    assert_eq!(room.list(&alone), ["d/", "d/c = c", "d/e/"]);
    let elsewhere = room.build(|b| {
        let other = files(b, None, vec![mkdir("/d"), mkfile("/d/a", "other"), mkfile("/d/z", "z")]);
        let deletion = deletion(b);
        b.merge(&[Some(other), deletion], &plain).unwrap()
    });
    assert_eq!(room.list(&elsewhere), ["d/", "d/c = c", "d/e/", "d/z = z"]);
    let Value::Snapshot(id) = elsewhere else { panic!("a merge is a snapshot") };
    let chain = room.shared.store.chain(id).unwrap().unwrap();
    assert!(chain[0].mounted.as_ref().is_some_and(|dir| *dir != chain[0].dir), "the layer itself stays as it was");
    // Copied from there, nothing that was deleted comes along.
    let copied = room.build(|b| {
        let from = deletion(b);
        let copy = FileActionCopy { dest: "/into".into(), ..copy_options() };
        Some(files(b, None, vec![FileStep::Copy { from: CopyFrom::State(from), copy }]))
    });
    assert_eq!(room.list(&copied), ["into/", "into/d/", "into/d/c = c", "into/d/e/"]);
    for layer in chain {
        room.shared.store.remove_snapshot(layer.id).unwrap();
    }
    let directories = || {
        let entries = std::fs::read_dir(room.shared.store.root()).unwrap().map(|entry| entry.unwrap().path());
        let buckets = entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snapshots"));
        let layers = buckets.flat_map(|bucket| std::fs::read_dir(bucket).unwrap().map(|entry| entry.unwrap().path()));
        layers.collect::<std::collections::BTreeSet<_>>()
    };
    let known = directories();
    assert!(!known.is_empty());
    room.shared.store.sweep().unwrap();
    assert_eq!(directories(), known, "nothing is left behind");
}

#[test]
fn a_directory_that_was_made_anew_hides_what_it_is_put_on() {
    let Some(room) = room() else { return };
    let plain = VertexOptions::default();
    let merged = room.build(|b| {
        let base = files(b, None, vec![mkdir("/d"), mkfile("/d/a", "1")]);
        let anew = files(b, Some(base), vec![rm("/d"), mkdir("/d"), mkfile("/d/new", "n")]);
        let change = b.diff(Some(base), Some(anew), &plain).unwrap();
        let other = files(b, None, vec![mkdir("/d"), mkfile("/d/else", "e")]);
        b.merge(&[Some(other), change], &plain).unwrap()
    });
    assert_eq!(room.list(&merged), ["d/", "d/new = n"]);
}

#[test]
fn a_diff_of_strangers_is_compared() {
    let Some(room) = room() else { return };
    let plain = VertexOptions::default();
    let both = |b: &mut GraphBuilder| {
        let lower = files(b, None, vec![mkfile("/same", "s"), mkfile("/a", "1"), mkfile("/gone", "g")]);
        let upper = files(b, None, vec![mkfile("/same", "s"), mkfile("/a", "2"), mkfile("/new", "n")]);
        (lower, upper)
    };
    let difference = room.build(|b| {
        let (lower, upper) = both(b);
        b.diff(Some(lower), Some(upper), &plain).unwrap()
    });
    assert_eq!(room.layers(&difference), 1);
    assert_eq!(room.list(&difference), ["a = 2", "new = n"], "the mark for gone hides nothing, and does not show");
    let merged = room.build(|b| {
        let (lower, upper) = both(b);
        let difference = b.diff(Some(lower), Some(upper), &plain).unwrap();
        b.merge(&[Some(lower), difference], &plain).unwrap()
    });
    assert_eq!(room.list(&merged), ["a = 2", "new = n", "same = s"]);
    let nothing = room.build(|b| {
        let (lower, _) = both(b);
        let emptied = b.diff(Some(lower), None, &plain).unwrap();
        b.merge(&[Some(lower), emptied], &plain).unwrap()
    });
    assert!(room.list(&nothing).is_empty());
    let itself = room.build(|b| {
        let (lower, _) = both(b);
        b.diff(Some(lower), Some(lower), &plain).unwrap()
    });
    assert!(matches!(itself, Value::Scratch));
}

/// A small generator, so that a failure can be told by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// A few changes of a small tree, where files become directories and back.
    fn steps(&mut self) -> Vec<FileStep> {
        let mut steps = vec![mkfile(&format!("/seen{}", self.roll(3)), "s")];
        for _ in 0..self.roll(6) {
            let name = |dice: &mut Self| ["a", "b", "c"][dice.roll(3) as usize];
            let (top, sub) = (name(self), name(self));
            match self.roll(4) {
                0 => steps.extend([rm(&format!("/{top}")), mkfile(&format!("/{top}"), sub)]),
                1 => {
                    steps.extend([
                        rm(&format!("/{top}")),
                        mkdir(&format!("/{top}/{sub}")),
                        mkfile(&format!("/{top}/f"), sub),
                    ]);
                }
                2 => steps.push(rm(&format!("/{top}"))),
                _ => steps.push(rm(&format!("/{top}/{sub}"))),
            }
        }
        steps
    }
}

#[test]
fn whatever_was_changed_its_diff_laid_over_the_lower_tree_is_the_upper_one() {
    let Some(room) = room() else { return };
    let plain = VertexOptions::default();
    for seed in 1..40u64 {
        let strangers = seed % 2 == 0;
        let graph = |b: &mut GraphBuilder| {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let lower = files(b, None, dice.steps());
            let lower = files(b, Some(lower), dice.steps());
            let upper = files(b, if strangers { None } else { Some(lower) }, dice.steps());
            (lower, files(b, Some(upper), dice.steps()))
        };
        let wanted = room.build(|b| Some(graph(b).1));
        let merged = room.build(|b| {
            let (lower, upper) = graph(b);
            let difference = b.diff(Some(lower), Some(upper), &plain).unwrap();
            b.merge(&[Some(lower), difference], &plain).unwrap()
        });
        assert_eq!(room.list(&merged), room.list(&wanted), "seed {seed}");
    }
}

/// The files of a directory with all that is known of them but what each directory has of its own (inode, size, links).
fn facts(root: &rhost_rootfs::Root) -> Vec<String> {
    let mut found = Vec::new();
    for entry in Tree::of_root(root.clone()).entries().unwrap() {
        let (path, stat) = (entry.path.display().to_string(), &entry.stat);
        let text = if stat.is_file() { root.read(format!("/{path}"), 1000).unwrap() } else { Vec::new() };
        let text = String::from_utf8_lossy(&text).into_owned();
        found.push(format!("{path} {:?} {:o} {:?} {:?} {text}", stat.kind, stat.mode, stat.owner, stat.mtime));
    }
    found
}

#[test]
fn layers_laid_over_each_other_read_as_they_do_mounted() {
    let Some(room) = room() else { return };
    for seed in 1..30u64 {
        let value = room.build(|b| {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut top = files(b, None, dice.steps());
            for _ in 0..dice.roll(8) {
                top = files(b, Some(top), dice.steps());
            }
            Some(top)
        });
        let Value::Snapshot(id) = value else { panic!("a snapshot") };
        let (wanted, mut found, mut count) = (facts(&room.shared.view(id).unwrap()), Vec::new(), 0);
        let flatten = |out: &std::path::Path, layers: &[std::path::PathBuf]| {
            let out = rhost_rootfs::Root::open(out)?;
            for layer in layers {
                let layer = rhost_rootfs::Root::open(layer)?;
                rhost_rootfs::flatten_layer(&layer, &out, OverlayXattrs::Trusted, OwnerPolicy::Exact)?;
            }
            (found, count) = (facts(&out), layers.len());
            Ok::<(), crate::op_error::OpFailure>(())
        };
        room.shared.store.flatten(id, flatten).unwrap();
        assert_eq!(found, wanted, "seed {seed}");
        assert_eq!(count, room.layers(&Value::Snapshot(id)), "each once");
    }
}

#[test]
fn a_chain_longer_than_overlayfs_takes_is_mounted_and_its_flat_is_made_again_when_it_is_lost() {
    let Some(room) = room() else { return };
    const LAYERS: usize = 503;
    let value = room.build(|b| {
        let mut top = None;
        for number in 0..LAYERS {
            let mut steps = vec![mkfile(&format!("/{number}"), "x")];
            if number % 100 == 99 {
                steps.push(rm(&format!("/{}", number - 50)));
            }
            top = Some(files(b, top, steps));
        }
        top
    });
    assert_eq!(room.layers(&value), LAYERS, "all of them are still there");
    assert_eq!(room.directories(), LAYERS + 1);
    let wanted: Vec<usize> = (0..LAYERS).filter(|n| !(n % 100 == 49 && *n < 499)).collect();
    let seen = |value: &Value| {
        let list = room.list(value);
        list.iter()
            .map(|line| line.trim_end_matches(" = x").parse().unwrap())
            .collect::<std::collections::BTreeSet<usize>>()
    };
    assert_eq!(seen(&value), wanted.iter().copied().collect());
    let Value::Snapshot(id) = value else { panic!("a snapshot") };
    let store = &room.shared.store;
    let spec = store.mount(id).unwrap().unwrap();
    assert_eq!(spec.lowers.len(), LAYERS - 250 + 1);
    let flat = spec.lowers.last().unwrap().clone();
    let kept = |name: &str| std::fs::metadata(flat.join(name)).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&kept("7")), 2, "linked, not copied");
    store.sweep().unwrap();
    assert!(flat.is_dir(), "a sweep spares it");
    // It is lost, and made again by who mounts it; before, the error says what to do.
    std::fs::remove_dir_all(flat.parent().unwrap()).unwrap();
    assert!(store.mount(id).unwrap_err().to_string().contains("build again"));
    assert_eq!(seen(&Value::Snapshot(id)).len(), wanted.len());
    let again = store.mount(id).unwrap().unwrap().lowers.last().unwrap().clone();
    assert!(again != flat && again.is_dir());
    // Its size is told with the snapshot's, and it goes with it.
    store.remember_uses();
    let usage = store.disk_usage().unwrap();
    let of = |id: &str| usage.iter().find(|record| record.id == id).unwrap().size;
    assert!(of("250") > of("249"), "{} {}", of("250"), of("249"));
    for layer in store.chain(id).unwrap().unwrap() {
        store.remove_snapshot(layer.id).unwrap();
    }
    assert!(!again.exists());
    assert_eq!(room.directories(), 0);
}

fn action(input: i64, secondary_input: i64, output: i64, kind: FileActionKind) -> FileAction {
    FileAction { input, secondary_input, output, kind }
}

fn kind(step: FileStep) -> FileActionKind {
    match step {
        FileStep::MkFile(file) => FileActionKind::MkFile(file),
        FileStep::MkDir(dir) => FileActionKind::MkDir(dir),
        FileStep::Rm(rm) => FileActionKind::Rm(rm),
        FileStep::Symlink(link) => FileActionKind::Symlink(link),
        FileStep::Copy { copy, .. } => FileActionKind::Copy(copy),
    }
}

fn copy_options() -> FileActionCopy {
    FileActionCopy {
        src: "/".into(),
        mode: -1,
        timestamp: -1,
        dir_copy_contents: true,
        create_dest_path: true,
        ..FileActionCopy::default()
    }
}

fn copy_all(dest: &str) -> FileActionKind {
    FileActionKind::Copy(FileActionCopy { dest: dest.into(), ..copy_options() })
}

/// The definition of one op without inputs, and a head.
fn lone(kind: OpKind) -> Definition {
    let op = Op { kind: Some(kind), ..Op::default() };
    let head = Op { inputs: vec![Input { digest: op.digest(), index: 0 }], ..Op::default() };
    Definition { def: vec![op.encode().into(), head.encode().into()], ..Definition::default() }
}

#[test]
fn actions_fork_copy_from_each_other_and_have_several_outputs() {
    let Some(room) = room() else { return };
    let actions = vec![
        action(-1, -1, -1, kind(mkfile("/a", "a"))),
        action(0, -1, 0, kind(mkfile("/b", "b"))),
        action(0, -1, -1, kind(mkfile("/c", "c"))),
        action(2, -1, 1, kind(mkfile("/d", "d"))),
        action(-1, 3, 2, copy_all("/copy")),
        action(-1, -1, -1, kind(mkfile("/nobody", "wants it"))),
    ];
    let definition = lone(OpKind::File(FileOp { actions }));
    let outputs: Vec<Value> = (0..3).map(|output| room.solve(&definition, output)).collect();
    assert_eq!(room.list(&outputs[0]), ["a = a", "b = b"]);
    assert_eq!(room.list(&outputs[1]), ["a = a", "c = c", "d = d"]);
    assert_eq!(room.list(&outputs[2]), ["copy/", "copy/a = a", "copy/c = c", "copy/d = d"]);
    // c and d are one layer: nothing but d stands on c. a is a layer of its own: two stand on it.
    assert_eq!(outputs.iter().map(|value| room.layers(value)).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(room.directories(), 4);
}

#[test]
fn a_local_directory_is_changed_merged_and_compared_as_a_copy() {
    let Some(room) = room() else { return };
    let context = room.dir.path().join("ctx");
    std::fs::write(context.join("f"), "mine").unwrap();
    let plain = VertexOptions::default();
    let local = |b: &mut GraphBuilder| b.source(SourceOp::new(SourceScheme::Local, "ctx"), &plain).unwrap();
    let changed = room.build(|b| {
        let base = local(b);
        Some(files(b, Some(base), vec![rm("/f"), mkfile("/g", "made")]))
    });
    assert_eq!(room.list(&changed), ["g = made"]);
    let merged = room.build(|b| {
        let (base, other) = (local(b), files(b, None, vec![mkfile("/o", "other")]));
        b.merge(&[Some(base), Some(other)], &plain).unwrap()
    });
    assert_eq!(room.list(&merged), ["f = mine", "o = other"]);
    let handed = room.build(|b| {
        let (base, other) = (local(b), files(b, None, vec![mkfile("/o", "other")]));
        let handed = b.passthrough("order", &[base, other], &[1], &plain).unwrap();
        Some(files(b, Some(handed[0]), vec![mkfile("/p", "after")]))
    });
    assert_eq!(room.list(&handed), ["o = other", "p = after"]);
    assert_eq!(std::fs::read_to_string(context.join("f")).unwrap(), "mine", "the user's file stays");
}
