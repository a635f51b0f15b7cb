//! The guests that mean harm: what each does, in the text format, and what its user reads. The prelude has the functions that they call.

/// Around all that are not about these.
pub const MEMORY: &str = r#"(memory (export "memory") 1)"#;
pub const REALLOC: &str = r#"(func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
  (global.set $next (i32.add (local.get $at) (local.get $size)))
  (block (loop
    (br_if 1 (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
    (br_if 1 (i32.eq (memory.grow (i32.const 64)) (i32.const -1)))
    (br 0)))
  (local.get $at))"#;

/// Name, body of `build` (parameter `$self`, locals `$i` and `$h`), a piece of what is told; empty where it is to do no harm and answer.
pub const BODIES: &[(&str, &str, &str)] = &[
    // Time.
    ("loops", "(loop (br 0))", "limit: compute time"),
    ("calls the host for ever", "(loop (call $drop_state (call $scratch)) (br 0))", "limit: compute time"),
    (
        "waits for one promise again and again",
        "(local.set $h (call $resolve (i32.const 400))) (loop (call $reset) (call $wait (local.get $h) (i32.const 32)) (br 0))",
        "limit: compute time",
    ),
    (
        "polls a promise for ever",
        "(local.set $h (call $resolve (i32.const 400))) (loop (drop (call $ready (local.get $h))) (br 0))",
        "limit: compute time",
    ),
    (
        "asks for its options for ever",
        "(loop (call $reset) (call $raw_options (local.get $self) (i32.const 32)) (br 0))",
        "limit: compute time",
    ),
    ("logs for ever", "(loop (call $log (i32.const 3) (i32.const 256) (i32.const 5)) (br 0))", "limit: compute time"),
    (
        "looks for what is not there for ever",
        "(loop (call $reset) (call $stat (i32.const 280) (i32.const 7) (i32.const 344) (i32.const 22) (i32.const 32)) (br 0))",
        "limit: compute time",
    ),
    (
        "marshals for ever",
        "(local.set $h (call $local)) (loop (call $reset) (call $marshal (local.get $h) (i32.const 32)) (br 0))",
        "limit: compute time",
    ),
    // Data.
    (
        "reads for ever",
        "(loop (call $reset) (call $read_file (i32.const 280) (i32.const 7) (i32.const 288) (i32.const 3) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 32)) (br 0))",
        "it read too many bytes of files (limit: 67108864)",
    ),
    ("hoards memory", "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))", "limit: 64 MiB"),
    ("wants all memory at once", "(drop (memory.grow (i32.const 65000)))", "limit: 64 MiB"),
    (
        "hoards what it reads",
        "(loop (call $read_file (i32.const 280) (i32.const 7) (i32.const 288) (i32.const 3) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 32)) (br 0))",
        "limit: 64 MiB",
    ),
    (
        "grows a table",
        "(drop (table.grow $t (ref.null func) (i32.const 1000000)))",
        "a table of 1000008 elements (limit: 20000)",
    ),
    (
        "says a text that is not in its memory",
        "(call $log (i32.const 3) (i32.const 0) (i32.const 0x7fffffff))",
        "crashed: ",
    ),
    ("says a text that is no UTF-8", "(call $log (i32.const 3) (i32.const 296) (i32.const 3))", "utf-8"),
    (
        "hands over 40 MiB in one call",
        "(drop (memory.grow (i32.const 700))) (call $from_definition (i32.const 4096) (i32.const 41943040) (i32.const 32))",
        "it handed over too much in one call (limit: 33554432)",
    ),
    (
        "describes for ever",
        "(local.set $h (call $metadata)) (loop (call $description (local.get $h) (i32.const 4096) (i32.const 1024) (i32.const 4096) (i32.const 1024)) (br 0))",
        "it handed over too many bytes (limit: 4194304)",
    ),
    (
        "adds capabilities for ever",
        "(local.set $h (call $metadata)) (loop (call $capability (local.get $h) (i32.const 256) (i32.const 5)) (br 0))",
        "one operation has too many capabilities (limit: 500)",
    ),
    (
        "adds variables for ever",
        "(local.set $h (call $exec (call $scratch) (i32.const 384) (i32.const 1))) (loop (call $env (local.get $h) (i32.const 4096) (i32.const 900) (i32.const 4096) (i32.const 900)) (br 0))",
        "it handed over too many bytes (limit: 4194304)",
    ),
    (
        "registers build files for ever",
        "(loop (drop (call $source_map (i32.const 256) (i32.const 5) (i32.const 256) (i32.const 5) (i32.const 256) (i32.const 5) (i32.const 0) (i32.const 0))) (br 0))",
        "it made too many source maps (limit: 1000)",
    ),
    (
        "details one finding for ever",
        "(local.set $h (call $diagnostic (i32.const 1) (i32.const 256) (i32.const 5))) (loop (call $detail (local.get $h) (i32.const 256) (i32.const 5)) (br 0))",
        "one diagnostic has too many marks or details (limit: 1000)",
    ),
    (
        "hides bytes in metadata of its answer",
        "(local.set $h (call $outcome)) (loop (call $outcome_metadata (local.get $h) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 4096)) (br 0))",
        "it handed over too many bytes (limit: 4194304)",
    ),
    // Stack.
    ("recurses", "(call $build (local.get $self)) (drop)", "limit: stack"),
    (
        "recurses through a table",
        "(table.set $t (i32.const 0) (ref.func $build)) (drop (call_indirect $t (param i32) (result i32) (local.get $self) (i32.const 0)))",
        "limit: stack",
    ),
    // Traps.
    ("aborts", "", "it aborted without a word"),
    ("panics", "(call $log (i32.const 4) (i32.const 256) (i32.const 5))", "panicked: linux"),
    ("divides by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
    ("overflows", "(drop (i32.trunc_f64_s (f64.const 1e300)))", "overflow"),
    ("reads outside of its memory", "(drop (i32.load (i32.const -8)))", "out of bounds"),
    (
        "calls nothing",
        "(drop (call_indirect $t (param i32) (result i32) (i32.const 0) (i32.const 1)))",
        "uninitialized element",
    ),
    (
        "calls outside of its table",
        "(drop (call_indirect $t (param i32) (result i32) (i32.const 0) (i32.const 99)))",
        "out of bounds",
    ),
    (
        "calls with another signature",
        "(table.set $t (i32.const 0) (ref.func $reset)) (drop (call_indirect $t (param i32) (result i32) (i32.const 0) (i32.const 0)))",
        "indirect call type mismatch",
    ),
    // Handles.
    (
        "leaks handles",
        "(loop (drop (call $scratch)) (br 0))",
        "it holds too many handles, or used one that is gone (limit: 5000)",
    ),
    (
        "drops a state twice",
        "(local.set $h (call $scratch)) (call $drop_state (local.get $h)) (call $drop_state (local.get $h))",
        "handle",
    ),
    (
        "uses a state that it dropped",
        "(local.set $h (call $scratch)) (call $drop_state (local.get $h)) (call $marshal (local.get $h) (i32.const 32))",
        "handle",
    ),
    ("makes up a handle", "(call $marshal (i32.const 4711) (i32.const 32))", "handle"),
    ("gives a handle of another kind", "(call $marshal (call $metadata) (i32.const 32))", "handle"),
    (
        "asks an invocation that it dropped",
        "(call $drop_invocation (local.get $self)) (call $raw_options (local.get $self) (i32.const 32))",
        "handle",
    ),
    // Promises.
    (
        "resolves for ever",
        "(loop (drop (call $resolve (i32.const 400))) (br 0))",
        "it started too many resolves and solves (limit: 500)",
    ),
    (
        "solves for ever",
        "(local.set $h (call $local)) (loop (drop (call $start_solve (local.get $h))) (br 0))",
        "it started too many resolves and solves (limit: 500)",
    ),
    (
        "never waits for what it started",
        "(drop (call $resolve (i32.const 400))) (drop (call $start_solve (call $local))) (return (call $done))",
        "",
    ),
    // Graphs.
    (
        "runs no command",
        "(call $run (call $exec (call $scratch) (i32.const 0) (i32.const 0)) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "exec op without arguments",
    ),
    (
        "runs a NUL byte",
        "(call $run (call $exec (call $local) (i32.const 392) (i32.const 1)) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "contains a NUL byte",
    ),
    (
        "mounts at a NUL byte",
        "(local.set $h (call $exec (call $local) (i32.const 384) (i32.const 1))) (call $mount (local.get $h) (i32.const 304) (i32.const 3) (call $scratch) (i32.const 0) (i32.const 0) (i32.const 0)) (call $run (local.get $h) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "contains a NUL byte",
    ),
    (
        "runs one builder twice",
        "(local.set $h (call $exec (call $local) (i32.const 384) (i32.const 1))) (call $run (local.get $h) (call $metadata) (i32.const 32)) (call $run (local.get $h) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "make another",
    ),
    (
        "takes a source of a scheme that is none",
        "(call $source (i32.const 312) (i32.const 10) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "gopher://x",
    ),
    (
        "takes a source without a name",
        "(call $source (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "source",
    ),
    (
        "takes a source with a variant that is invalid",
        "(call $source (i32.const 328) (i32.const 15) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (call $metadata) (i32.const 32))",
        "crashed: ",
    ),
    (
        "merges the same a hundred thousand times",
        "(local.set $h (call $local)) (drop (memory.grow (i32.const 16))) (loop (i32.store (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 4))) (local.get $h)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 100000)))) (call $merge (i32.const 65536) (i32.const 100000) (call $metadata) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "(limit: ",
    ),
    (
        "grows a graph without end",
        "(local.set $h (call $local)) (loop (call $run (call $exec (local.get $h) (i32.const 384) (i32.const 1)) (call $metadata) (i32.const 32)) (if (i32.load8_u (i32.const 32)) (then (return (i32.const 32)))) (local.set $h (i32.load (i32.const 36))) (br 0))",
        "1000",
    ),
    (
        "takes over noise as a graph",
        "(call $from_definition (i32.const 296) (i32.const 8) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "the definition cannot be read",
    ),
    // Answers.
    ("answers with a handle that is none", "(return (call $ok (i32.const 7)))", "handle"),
    ("answers with another kind of handle", "(return (call $ok (call $scratch)))", "handle"),
    ("answers with what it was asked", "(return (call $ok (local.get $self)))", "handle"),
    ("answers nothing", "(return (call $ok (call $outcome)))", "no result for any platform and no metadata"),
    (
        "answers with noise as configuration",
        "(local.set $h (call $outcome)) (call $add_linux (local.get $h) (call $scratch) (i32.const 296) (i32.const 3)) (return (call $ok (local.get $h)))",
        "is no JSON object",
    ),
    (
        "answers for no platform",
        "(local.set $h (call $outcome)) (call $add (local.get $h) (i32.const 0) (i32.const 0) (i32.const 304) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (call $scratch) (i32.const 272) (i32.const 2)) (return (call $ok (local.get $h)))",
        "is no platform",
    ),
    (
        "answers for a platform each microsecond",
        "(local.set $h (call $outcome)) (loop (i32.store (i32.const 264) (local.get $i)) (i32.store8 (i32.const 264) (i32.add (i32.const 97) (i32.and (local.get $i) (i32.const 15)))) (i32.store8 (i32.const 265) (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $i) (i32.const 4)) (i32.const 15)))) (i32.store8 (i32.const 266) (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $i) (i32.const 8)) (i32.const 15)))) (i32.store8 (i32.const 267) (i32.const 97)) (call $add_linux (local.get $h) (call $scratch) (i32.const 272) (i32.const 2)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br 0))",
        "its outcome has too many platforms (limit: 1000)",
    ),
    (
        "answers with neither an error nor an outcome",
        "(i32.store8 (i32.const 16) (i32.const 9)) (return (i32.const 16))",
        "crashed: ",
    ),
    (
        "answers with an error that is none",
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const 77)) (return (i32.const 16))",
        "crashed: ",
    ),
    ("answers outside of its memory", "(return (i32.const -16))", "crashed: "),
    ("answers at an odd place", "(return (i32.const 17))", "crashed: "),
    (
        "fails with a text that is not in its memory",
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 20) (i32.const 5)) (i32.store (i32.const 24) (i32.const 0)) (i32.store (i32.const 28) (i32.const -1)) (return (i32.const 16))",
        "crashed: ",
    ),
    // Words.
    (
        "marks places that no file has",
        "(local.set $h (call $diagnostic (i32.const 1) (i32.const 256) (i32.const 5))) (call $mark (local.get $h) (call $source_map (i32.const 256) (i32.const 5) (i32.const 256) (i32.const 5) (i32.const 256) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const -1) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 5)) (call $emit (local.get $h)) (return (call $done))",
        "",
    ),
    (
        "locates an operation where no file is",
        "(local.set $h (call $metadata)) (call $location (local.get $h) (call $source_map (i32.const 256) (i32.const 5) (i32.const 256) (i32.const 5) (i32.const 256) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const 496) (i32.const 1)) (call $diff (call $scratch) (call $local) (local.get $h) (i32.const 32)) (local.set $h (call $outcome)) (call $add_linux (local.get $h) (call $got (i32.const 32)) (i32.const 272) (i32.const 2)) (return (call $ok (local.get $h)))",
        "",
    ),
    (
        "finds something a thousand times",
        "(loop (local.set $h (call $diagnostic (i32.const 0) (i32.const 256) (i32.const 5))) (call $emit (local.get $h)) (call $drop_diagnostic (local.get $h)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000)))) (return (call $done))",
        "",
    ),
    // Paths.
    (
        "reads outside of its context",
        "(call $read_file (i32.const 280) (i32.const 7) (i32.const 344) (i32.const 22) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "no such file",
    ),
    (
        "reads a file at its very end",
        "(call $read_file (i32.const 280) (i32.const 7) (i32.const 344) (i32.const 22) (i32.const 1) (i64.const -1) (i64.const -1) (i32.const 32)) (return (call $relay (i32.const 32)))",
        "no such file",
    ),
];

/// Whole modules around `build`: name, what stands in place of memory, allocation and `build`, a piece of what is told.
pub const MODULES: &[(&str, &str, &str)] = &[
    ("begins with 125 MiB", r#"(memory (export "memory") 2000) REALLOC BUILD"#, "limit: 64 MiB"),
    (
        "begins with a large table",
        "MEMORY REALLOC BUILD (table $large 500000 funcref)",
        "a table of 500000 elements (limit: 20000)",
    ),
    (
        "loops before it is asked",
        "MEMORY REALLOC BUILD (func $begin (loop (br 0))) (start $begin)",
        "limit: compute time",
    ),
    (
        "traps before it is asked",
        "MEMORY REALLOC BUILD (func $begin (unreachable)) (start $begin)",
        "it aborted without a word",
    ),
    (
        "allocates outside of its memory",
        r#"MEMORY (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -4096)) ASK"#,
        "crashed: ",
    ),
    (
        "allocates at odd places",
        r#"MEMORY (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4097)) ASK"#,
        "crashed: ",
    ),
    (
        "loops when it is to allocate",
        r#"MEMORY (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) (unreachable)) ASK"#,
        "limit: compute time",
    ),
    (
        "calls the host when it is to allocate",
        r#"MEMORY (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $scratch)) ASK"#,
        "cannot leave component instance",
    ),
    (
        "loops when it has answered",
        r#"MEMORY REALLOC (func $build (export "build") (param $self i32) (result i32) (call $done)) (func (export "cabi_post_build") (param i32) (loop (br 0)))"#,
        "limit: compute time",
    ),
    (
        "calls the host when it has answered",
        r#"MEMORY REALLOC (func $build (export "build") (param $self i32) (result i32) (call $done)) (func (export "cabi_post_build") (param i32) (drop (call $scratch)))"#,
        "cannot leave component instance",
    ),
];
