//! Entitlements, and limits of steps.
use super::{build, said};
use crate::build::host;

#[test]
fn what_is_not_allowed_is_refused_before_anything_runs() {
    let Some((host, _registry)) = host() else { return };
    for (flag, entitlement) in [("--network=host", "network.host"), ("--security=insecure", "security.insecure")] {
        let dockerfile = format!("FROM busybox\nRUN echo first\nRUN {flag} echo second\n");
        let text = build(&host, &dockerfile, &[]).failure(2);
        assert!(text.contains("Dockerfile:3") && text.contains(entitlement) && !text.contains(" first\n#"), "{text}");
        assert!(text.contains(&format!("hint: allow it with `--allow {entitlement}`")), "{text}");
        let other = if entitlement == "network.host" { "security.insecure" } else { "network.host" };
        build(&host, &dockerfile, &["--allow", other]).failure(2);
        assert!(said(build(&host, &dockerfile, &["--allow", entitlement])).contains("second\n"));
    }
    let text = build(&host, "FROM busybox\nRUN true\n", &["--allow", "everything"]).failure(2);
    assert!(text.contains("network.host and security.insecure"), "{text}");
    // As with buildx: the flag is the permission.
    build(&host, "FROM busybox\nRUN echo third\n", &["--network", "host"]).success();
    let text = build(&host, "FROM busybox\nRUN --security=maybe true\n", &["--allow", "security.insecure"]).failure(3);
    assert!(text.contains("maybe"), "{text}");
}

#[test]
fn an_insecure_step_is_not_in_the_sandbox() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nRUN --security=insecure mount -t tmpfs none /tmp && echo mounted; grep ^Seccomp: /proc/self/status; [ -c /dev/fuse ] && echo devices\nRUN mount -t tmpfs none /tmp 2>/dev/null || echo refused; grep ^Seccomp: /proc/self/status\n";
    let text = said(build(&host, dockerfile, &["--allow", "security.insecure"]));
    assert_eq!(text, "mounted\nSeccomp:\t0\ndevices\nrefused\nSeccomp:\t2\n");
}

#[test]
fn limits_of_steps() {
    let Some((host, _registry)) = host() else { return };
    let dockerfile = "FROM busybox\nRUN ulimit -n; ulimit -Hn; df -k /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2\n";
    let text = said(build(&host, dockerfile, &["--ulimit", "nofile=100:200", "--shm-size", "2m"]));
    assert_eq!(text, "100\n200\n2048\n");
    let text = build(&host, dockerfile, &["--ulimit", "nofiles=1"]).failure(3);
    assert!(text.contains("nofiles"), "{text}");
    let text = build(&host, dockerfile, &["--shm-size", "big"]).failure(2);
    assert!(text.contains("--shm-size big"), "{text}");
    let text = build(&host, dockerfile, &["--cgroup-parent", "../up"]).failure(1);
    assert!(text.contains("../up"), "{text}");
    build(&host, dockerfile, &["--cgroup-parent", "rhost-test"]).success();
}
