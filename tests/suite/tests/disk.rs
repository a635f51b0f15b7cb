//! Disk under control: what `du` tells, what `prune` takes and leaves, the limit that is kept.
use std::fs;

use rhost_kit::TestHost;

use crate::running::{Gate, Running, context, host};

fn records(host: &TestHost, filter: &str) -> Vec<String> {
    let text = host.run(["du", "--json", "--filter", filter]).expect("ran").success();
    text.lines().map(str::to_owned).collect()
}

fn used(host: &TestHost) -> u64 {
    let sizes = records(host, "id").into_iter().map(|line| {
        let value: serde_json::Value = serde_json::from_str(&line).expect("json");
        value["size"].as_u64().expect("a size")
    });
    sizes.sum()
}

#[test]
fn du_tells_sizes_and_prune_takes_all_that_no_name_keeps() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\nRUN echo small > /small\n";
    let ctx = context(&host, "ctx", &[("Dockerfile", dockerfile)]);
    host.run(["build", "-t", "kept", &ctx]).expect("ran").success();
    let table = host.run(["du"]).expect("ran").success();
    assert!(
        table.contains("RUN head -c 3000000") && table.contains("3.0 MB") && table.contains("Reclaimable:"),
        "{table}"
    );
    let layer = &records(&host, "type==regular,description~=head -c")[0];
    assert!(layer.contains("\"usageCount\":1") && layer.contains("\"inUse\":false"), "{layer}");

    let before = used(&host);
    let told = host.run(["prune", "--all", "--dry-run"]).expect("ran").success();
    assert!(told.contains("not in use") && told.contains("Would free: "), "{told}");
    assert_eq!(used(&host), before, "a dry run takes nothing");
    let told = host.run(["prune", "--filter", "description~=echo small"]).expect("ran").success();
    assert_eq!(told.lines().count(), 2, "{told}");
    host.run(["prune", "--all"]).expect("ran").success();
    assert!(records(&host, "type==regular").is_empty() && records(&host, "type==frontend").is_empty());
    assert!(records(&host, "inuse==false,type!=history").is_empty(), "the named image keeps its blobs");

    // The image is whole, and the next build is right.
    let saved = host.dir().join("saved.tar").display().to_string();
    host.run(["save", "-o", &saved, "kept"]).expect("ran").success();
    assert!(fs::metadata(&saved).expect("there").len() > 3_000_000);
    let child = context(&host, "child", &[("Dockerfile", "FROM kept\nRUN grep small /small && test -s /big\n")]);
    host.run(["build", &child]).expect("ran").success();
    host.run(["rmi", "kept"]).expect("ran").success();
    host.run(["prune", "--all"]).expect("ran").success();
    let history = records(&host, "type==history");
    assert!(!history.is_empty() && records(&host, "id").len() == history.len(), "only what says why steps run stays");
    host.run(["prune", "--filter", "type==history"]).expect("ran").success();
    assert_eq!(used(&host), 0);
    assert!(host.run(["images", "--quiet"]).expect("ran").success().is_empty(), "images without a name go too");
    host.run(["build", "-t", "again", &ctx]).expect("ran").success();
    for (arguments, part) in [(["prune", "--filter", "typ==x"], "typ"), (["prune", "--max-used-space", "much"], "much")]
    {
        let text = host.run(arguments).expect("ran").failure(2);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_a_running_build_uses_stays() {
    let Some((host, _registry)) = host() else { return };
    let gate = Gate::new();
    let dockerfile = format!(
        "FROM busybox\nRUN echo one > /one\nRUN {}; cat /one > /two\nRUN cat /one /two > /three\n",
        gate.knock()
    );
    let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
    let tree = host.dir().join("tree").display().to_string();
    let build = Running::start(host.command(["build", "--progress", "plain", "-o", &tree, &ctx]));
    let visitor = gate.visitor();
    assert!(!records(&host, "type==regular,inuse").is_empty());
    host.run(["prune", "--all"]).expect("ran").success();
    visitor.let_in();
    build.end().success();
    assert_eq!(fs::read_to_string(format!("{tree}/three")).expect("made"), "one\none\n");
}

#[test]
fn the_limit_is_kept_and_the_least_used_goes_first() {
    let Some((host, registry)) = host() else { return };
    let mirrors = format!("[registry.\"docker.io\"]\nmirrors = [{:?}]\n", registry.address());
    let config = format!("{mirrors}[gc]\nmaxUsedSpace = \"12MB\"\nminFreeSpace = 0\nreservedSpace = 0\n");
    host.write_config(&config).expect("written");
    for n in 0..6 {
        let dockerfile = format!("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big{n}\n");
        let ctx = context(&host, "ctx", &[("Dockerfile", &dockerfile)]);
        host.run(["build", "-o", "type=cacheonly", &ctx]).expect("ran").success();
        assert!(used(&host) <= 12_000_000, "after build {n}: {}", host.run(["du"]).expect("ran").stdout);
    }
    assert_eq!(records(&host, "description~=/big5").len(), 1, "the newest is there");
    assert!(records(&host, "description~=/big0").is_empty(), "the oldest is gone");
}

#[test]
fn builds_and_prunes_at_once() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox AS base\nRUN echo shared > /shared\nFROM base\nARG N\nCOPY a /a\nRUN cat /a /shared > /both && echo $N > /n\n";
    let ctx = context(&host, "ctx", &[("Dockerfile", dockerfile), ("a", "from the context\n")]);
    for round in 0..3 {
        let builds: Vec<Running> = (0..12)
            .map(|n| {
                let dest = host.dir().join(format!("tree{round}-{n}")).display().to_string();
                let argument = format!("N={}", n % 4);
                Running::start(host.command([
                    "build",
                    "--progress",
                    "plain",
                    "--build-arg",
                    &argument,
                    "-o",
                    &dest,
                    &ctx,
                ]))
            })
            .collect();
        let prunes: Vec<Running> = (0..6).map(|_| Running::start(host.command(["prune", "--all"]))).collect();
        for prune in prunes {
            prune.end().success();
        }
        for (n, build) in builds.into_iter().enumerate() {
            build.end().success();
            let read =
                |name: &str| fs::read_to_string(host.dir().join(format!("tree{round}-{n}")).join(name)).expect("there");
            assert_eq!((read("n"), read("both")), (format!("{}\n", n % 4), "from the context\nshared\n".to_owned()));
        }
    }
}
