//! RUN mount options: accepted, refused, defaults.
use super::*;

fn resolve(text: &str) -> Result<Mount, String> {
    let spec = MountSpec::read(text).map_err(|e| e.to_string())?;
    spec.resolve(&mut |value| Ok(value.replace("$v", "7"))).map_err(|e| e.to_string())
}

fn fails(table: &[(&str, &str)]) {
    for (text, expect) in table {
        let error = resolve(text).unwrap_err();
        assert!(error.contains(expect), "{text}: {error}");
    }
}

#[test]
fn types_and_their_defaults() {
    for (text, kind, read_only) in [
        ("target=/x", MountType::Bind, true),
        ("type=bind,target=/x,rw", MountType::Bind, false),
        ("type=bind,target=/x,rw=false", MountType::Bind, true),
        ("type=bind,target=/x,readonly=0", MountType::Bind, false),
        ("type=cache,target=/x", MountType::Cache, false),
        ("type=cache,target=/x,ro", MountType::Cache, true),
        ("type=TMPFS,target=/x", MountType::Tmpfs, false),
        ("type=secret,id=s", MountType::Secret, true),
        ("type=ssh", MountType::Ssh, true),
    ] {
        let mount = resolve(text).unwrap();
        assert_eq!((mount.kind, mount.read_only), (kind, read_only), "{text}");
    }
}

#[test]
fn all_options() {
    let mount = resolve("TYPE=cache,from=base,src=/s,dst=/t,id=i,sharing=Locked,mode=0700,uid=$v,gid=20").unwrap();
    let expect = Mount {
        kind: MountType::Cache,
        from: "base".into(),
        source: "/s".into(),
        target: "/t".into(),
        id: "i".into(),
        sharing: Some(Sharing::Locked),
        mode: Some(0o700),
        uid: Some(7),
        gid: Some(20),
        ..Mount::default()
    };
    assert_eq!(mount, expect);
    assert_eq!(resolve("type=secret,id=s,required,env=TOKEN").unwrap().env.as_deref(), Some("TOKEN"));
    assert!(resolve("type=ssh,required=true").unwrap().required);
    assert_eq!(resolve("type=tmpfs,target=/x,size=1.5k").unwrap().size, 1536);
    assert_eq!(resolve("\"target=/a,b\",\"source=x\"\"y\"").unwrap().target, "/a,b");
    assert_eq!(resolve("target=/a,from=x$").unwrap().from, "x$");
}

#[test]
fn refusals() {
    fails(&[
        ("", "it is empty"),
        ("a\"b", "quote inside"),
        ("\"a", "not closed"),
        ("\"a\"b", "behind a closing"),
        ("from=$x", "doesn't support variable expansion"),
        ("target", "invalid field 'target'"),
        ("type=binf", "did you mean bind?"),
        ("type=cach,target=/x", "did you mean cache?"),
        ("type=volume", "unsupported mount type \"volume\""),
        ("targt=/x", "did you mean target?"),
        ("bogus=1", "unexpected key 'bogus'"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("type=cache,sharing=share", "did you mean shared?"),
        ("type=bind,sharing=shared", "unexpected key 'sharing' for mount type 'bind'"),
        ("size=1,type=tmpfs", "'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size"),
        ("type=cache,required", "'required' for mount type 'cache'"),
        ("target=/x,mode=0700", "'mode' for mount type 'bind'"),
        ("target=/x,uid=0", "unexpected key 'uid'"),
        ("type=tmpfs,gid=0", "'gid' for mount type 'tmpfs'"),
        ("type=cache,mode=9", "invalid value for mode: 9"),
        ("type=cache,uid=-1", "invalid value for uid"),
        ("type=cache,uid=+1", "invalid value for uid"),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "'from' for mount type 'secret'"),
        ("type=secret,id=a,sharing=shared", "unexpected key 'sharing'"),
    ]);
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("1.5 MiB", 1_572_864),
        ("2g", 2 << 30),
        ("1t", 1 << 40),
        ("1p", 1 << 50),
        ("1e3", 1000),
        ("1_000", 1000),
    ] {
        assert_eq!(ram_bytes(text), Some(bytes), "{text}");
    }
    for text in ["", "k", "-1", "1x", "1bb", "1kx", "1kibb", "1 2", "inf", "nan", "1..2", "_1", "1__0", "1_k"] {
        assert_eq!(ram_bytes(text), None, "{text}");
    }
}

#[test]
fn devices() {
    let device = |text: &str| Device::read(text).map(|d| (d.name, d.required)).map_err(|e| e.to_string());
    assert_eq!(device("v.com/d=x"), Ok(("v.com/d=x".into(), false)));
    assert_eq!(device("v.com/d=x,required"), Ok(("v.com/d=x".into(), true)));
    assert_eq!(device("name=v.com/d,required=false"), Ok(("v.com/d".into(), false)));
    assert!(device("a,name=b").unwrap_err().contains("already set to a"));
    assert!(device("a,requird=1").unwrap_err().contains("did you mean required?"));
    assert!(device("a,required=x").unwrap_err().contains("boolean"));
}
