//! Runs the table: each guest in turn is stopped, with its name, its digest and a message that says why; and the host lives on.
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhost_frontend::*;

use super::table::{BODIES, MEMORY, MODULES, REALLOC};
use crate::guests::guest;
use crate::kit::{Host, Kit, kit};

const PRELUDE: &str = include_str!("prelude.wat");

/// Bounds that are reached soon, so that the bound that is meant is the first.
fn limits() -> Limits {
    Limits {
        compute: Duration::from_millis(500),
        handles: 5_000,
        promises: 500,
        handed_over: 4 << 20,
        reports: 100,
        read: 64 << 20,
        graph: rhost_llb::Limits { ops: 1_000, per_op: 500, ..rhost_llb::Limits::HOSTILE },
        ..Limits::HOSTILE
    }
}

fn build(body: &str) -> String {
    format!(
        r#"(table $t 8 funcref) (elem declare func $build $reset)
        (func $build (export "build") (param $self i32) (result i32) (local $i i32) (local $h i32) {body} (unreachable))"#
    )
}

fn imports_first(module: &str) -> String {
    format!("{PRELUDE}\n{module}")
}

async fn run(kit: &Kit, bytes: &[u8]) -> (Result<Outcome, RunError>, Vec<Report>, Duration) {
    let frontend = kit.load(bytes).await.unwrap();
    let host = Arc::new(Host { files: [("big".to_owned(), vec![b'x'; 4 << 20])].into(), ..Host::default() });
    let invocation = Invocation::new("build", rhost_llb::Platform::new("linux", "amd64", ""));
    let start = Instant::now();
    let answer = frontend.build(host.clone(), invocation, &limits()).await;
    let reports = host.reports.lock().unwrap().clone();
    (answer, reports, start.elapsed())
}

/// All of them, a few at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_is_stopped_and_told() {
    let kit = Arc::new(kit());
    let plain = |body: &str| format!("{MEMORY} {REALLOC} {}", build(body));
    let ask = build("(call $raw_options (local.get $self) (i32.const 32))");
    let whole = |module: &str| {
        let module = module.replace("MEMORY", MEMORY).replace("REALLOC", REALLOC);
        module.replace("BUILD", &build("")).replace("ASK", &ask)
    };
    let bodies = BODIES.iter().map(|(name, body, told)| (*name, plain(body), *told));
    let modules = MODULES.iter().map(|(name, module, told)| (*name, whole(module), *told));
    let guests: Vec<_> = bodies.chain(modules).collect();
    assert!(guests.len() >= 70, "{}", guests.len());
    let mut wrong = Vec::new();
    let checks = guests.into_iter().map(|(name, module, told)| {
        let kit = kit.clone();
        tokio::spawn(async move {
            let bytes = guest(&imports_first(&module));
            let (answer, reports, took) = run(&kit, &bytes).await;
            let text = answer.as_ref().map_or_else(ToString::to_string, |_| "an answer".to_owned());
            let as_told = match &answer {
                Ok(_) => told.is_empty(),
                Err(RunError::Refused { .. }) => !told.is_empty() && text.contains(told),
                Err(_) => !told.is_empty() && text.contains(told) && text.starts_with("frontend x.wasm (sha256:"),
            };
            let mut faults = Vec::new();
            if !as_told {
                faults.push(format!("{name}: wanted `{told}`, told `{text}`"));
            }
            if reports.len() > 101 {
                faults.push(format!("{name}: {} reports", reports.len()));
            }
            // Half a second is allowed; the rest is for a machine that has other things to do.
            if took > Duration::from_secs(20) {
                faults.push(format!("{name}: took {took:?}"));
            }
            faults
        })
    });
    let checks: Vec<_> = checks.collect();
    for check in checks {
        wrong.extend(check.await.unwrap());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A definition with ops that no builder would make, as a guest that takes it over.
async fn takes_over(definition: &[u8]) -> String {
    let escaped: String = definition.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let body = format!(
        "(call $from_definition (i32.const 4096) (i32.const {}) (i32.const 32)) (return (call $relay (i32.const 32)))",
        definition.len()
    );
    let module = format!("{MEMORY} {REALLOC} (data (i32.const 4096) \"{escaped}\") {}", build(&body));
    let (answer, ..) = run(&kit(), &guest(&imports_first(&module))).await;
    answer.unwrap_err().to_string()
}

#[tokio::test]
async fn graphs_that_lie_are_refused() {
    use rhost_llb::*;
    let source = Op {
        constraints: Some(WorkerConstraints::default()),
        kind: Some(OpKind::Source(SourceOp::new(SourceScheme::Local, "context"))),
        ..Op::default()
    };
    let head = |op: &Op, index| Op { inputs: vec![Input { digest: op.digest(), index }], ..Op::default() };
    let definition = |ops: &[Op]| {
        Definition { def: ops.iter().map(|op| op.encode().into()).collect(), ..Definition::default() }.encode()
    };
    let exec = |mount: Mount, security: u8| {
        let meta = Meta { args: vec!["x".into()], cwd: "/".into(), ..Meta::default() };
        let exec = ExecOp { meta: Some(meta), mounts: vec![mount], ..ExecOp::default() };
        let op = Op {
            inputs: vec![Input { digest: source.digest(), index: 0 }],
            constraints: Some(WorkerConstraints::default()),
            kind: Some(OpKind::Exec(exec)),
            ..Op::default()
        };
        let mut bytes = op.encode();
        if security > 0 {
            // The exec op is last: its length grows by a field of two bytes, security mode.
            let at = bytes.len() - ExecLength::of(&op);
            bytes[at - 1] += 2;
            bytes.extend([4 << 3, security]);
        }
        bytes
    };
    struct ExecLength;
    impl ExecLength {
        fn of(op: &Op) -> usize {
            let without = Op { kind: None, ..op.clone() };
            // Tag and length before it.
            op.encode().len() - without.encode().len() - 2
        }
    }
    let root = Mount { dest: "/".into(), ..Mount::default() };
    let of = |exec: Vec<u8>| {
        let head = Op { inputs: vec![Input { digest: VertexDigest(Digest::of(&exec)), index: 0 }], ..Op::default() };
        let def = vec![source.encode().into(), exec.into(), head.encode().into()];
        Definition { def, ..Definition::default() }.encode()
    };
    assert!(Definition::decode(&of(exec(root.clone(), 0)), &Limits::HOSTILE).is_ok());
    for (what, bytes, told) in [
        ("an input that is not there", definition(&[head(&source, 0)]), "which the definition does not have"),
        ("an output that is not there", definition(&[source.clone(), head(&source, 3)]), "output 3"),
        ("a privilege that does not exist", of(exec(root.clone(), 9)), "SecurityMode"),
        ("a mount outside", of(exec(Mount { dest: "x/../../..\0".into(), ..root.clone() }, 0)), "mount"),
        ("an input beyond the last", of(exec(Mount { input: 7, ..root }, 0)), "input"),
    ] {
        let found = takes_over(&bytes).await;
        assert!(found.contains(told), "{what}: {found}");
    }
}
