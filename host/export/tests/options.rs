//! `-o` strings, as buildx takes them, and the ones that must be refused.
use rhost_export::{Compression, Destination, MediaTypes, Output, Placement, PushBy};
use rhost_llb::Platform;

fn parse(text: &str) -> Output {
    Output::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn refused(text: &str, wanted: &str) {
    match Output::parse(text) {
        Ok(output) => panic!("{text} became {output:?}"),
        Err(error) => assert!(error.to_string().contains(wanted), "{text}: {error}"),
    }
}

#[test]
fn short_forms() {
    assert!(matches!(parse("out/dir"), Output::Local(_, path) if path.to_str() == Some("out/dir")));
    assert!(matches!(parse("-"), Output::Tar(_, Destination::Stdout)));
}

#[test]
fn each_type() {
    assert!(matches!(parse("type=oci"), Output::OciTar(_, Destination::Stdout)));
    assert!(
        matches!(parse("type=oci,dest=a.tar"), Output::OciTar(_, Destination::File(path)) if path.to_str() == Some("a.tar"))
    );
    assert!(matches!(parse("type=oci,dest=a,tar=false"), Output::OciDir(_, path) if path.to_str() == Some("a")));
    assert!(matches!(parse("type=docker,dest=-"), Output::Docker(_, Destination::Stdout)));
    assert!(matches!(parse("dest=x,type=local"), Output::Local(..)));
    assert!(matches!(parse("type=tar,dest=x.tar"), Output::Tar(_, Destination::File(_))));
    assert!(matches!(parse("type=image,name=foo,push=false"), Output::Image(_)));
    assert_eq!(parse("type=cacheonly"), Output::CacheOnly);
    assert!(matches!(parse("type=local,dest=a=b"), Output::Local(_, path) if path.to_str() == Some("a=b")));
}

#[test]
fn image_options() {
    let text = r#"type=oci,"name=foo:x,bar/b",compression=zstd,compression-level=19,force-compression=true,oci-mediatypes=false,source-date-epoch=7"#;
    let Output::OciTar(image, _) = parse(text) else { panic!() };
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["docker.io/library/foo:x", "docker.io/bar/b:latest"]);
    assert_eq!(image.compression, Compression::Zstd { level: 19 });
    assert!(image.force_compression);
    assert_eq!(image.media_types, MediaTypes::Docker);
    assert_eq!((image.source_date_epoch, image.rewrite_timestamp), (Some(Some(7)), false));
    let Output::OciTar(image, _) = parse("type=oci,rewrite-timestamp=true,source-date-epoch=") else { panic!() };
    assert_eq!((image.source_date_epoch, image.rewrite_timestamp), (Some(None), true), "said to be none");
    let Output::OciTar(image, _) = parse("TYPE=oci,compression-level=9") else { panic!() };
    assert_eq!(image.compression, Compression::Gzip { level: 9 });
    let Output::OciTar(image, _) = parse("type=oci,compression=uncompressed") else { panic!() };
    assert_eq!(image.compression, Compression::None);
}

#[test]
fn annotation_options() {
    let text = "type=oci,annotation.a.B=c,annotation-manifest[linux/arm64].d=e=f,annotation-manifest-descriptor.g=h,annotation-index.i=j,annotation-index-descriptor.k=l";
    let Output::OciTar(image, _) = parse(text) else { panic!() };
    let arm = Platform::new("linux", "arm64", "");
    let of = |placement, platform| image.annotations.of(placement, platform).into_iter().collect::<Vec<_>>();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(of(Placement::Manifest, None), [pair("a.B", "c")]);
    assert_eq!(of(Placement::Manifest, Some(&arm)), [pair("a.B", "c"), pair("d", "e=f")]);
    assert_eq!(of(Placement::ManifestDescriptor, None), [pair("g", "h")]);
    assert_eq!(of(Placement::Index, None), [pair("i", "j")]);
    assert_eq!(of(Placement::IndexDescriptor, None), [pair("k", "l")]);
}

#[test]
fn typos_get_a_suggestion() {
    refused("type=oc", "did you mean `oci`?");
    refused("type=oci,compresion=gzip", "did you mean `compression`?");
    refused("type=oci,dst=x", "did you mean `dest`?");
    refused(
        "type=local,dest=x,compression=gzip",
        "output type `local` has no option `compression`; it has dest, platform-split",
    );
    refused("type=image,dest=x", "has no option `dest`");
    refused("type=tar,tar=false,dest=x", "has no option `tar`");
    refused("type=oci,annotations.a=b", "has no option `annotations.a`");
    refused("type=cacheonly,dest=x", "has no option `dest`");
}

#[test]
fn what_comes_later_says_so() {
    for text in [
        "type=moby",
        "type=oci,push=true",
        "type=image,unpack=true",
        "type=oci,compression=estargz",
        "type=local,dest=x,mode=delete",
        "type=docker,tar=false,dest=x",
        "type=image,dangling-name-prefix=x",
    ] {
        refused(text, "not supported yet");
    }
    parse("type=image,store=true,unpack=false,push=0,rewrite-timestamp=false");
    parse("type=local,dest=x,mode=copy");
}

#[test]
fn where_an_image_goes() {
    let image = |text: &str| match parse(text) {
        Output::Image(image) => (image.push, image.push_by, image.store, image.insecure, image.name_canonical),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(image("type=image"), (false, PushBy::Tag, true, false, false));
    assert_eq!(image("type=registry,name=foo"), (true, PushBy::Tag, false, false, false));
    assert_eq!(image("type=image,push=true,registry.insecure=true"), (true, PushBy::Tag, true, true, false));
    let by_digest = "type=image,name=r.example/a,push-by-digest=true,name-canonical=true,push=true";
    assert_eq!(image(by_digest), (true, PushBy::Digest, true, false, true));
    assert_eq!(image("type=registry,push=false,store=true"), (false, PushBy::Tag, true, false, false));
    refused("type=image,name=r.example:5000/a:1,push-by-digest=true,push=true", "the tag of `r.example:5000/a:1`");
    refused("type=image,name=foo,push", "is no KEY=VALUE");
    refused("type=image,push=maybe", "wanted true or false");
    refused("type=registry,dest=x", "has no option `dest`");
}

#[test]
fn bad_values() {
    refused("", "nothing is named");
    refused("dest=x", "has no type");
    refused("type=oci,type=oci", "given twice");
    refused("type=oci,name=a,name=b", "given twice");
    refused("type=oci,foo", "is no KEY=VALUE");
    refused("type=oci,=x", "is no KEY=VALUE");
    refused("type=oci,tar=maybe", "wanted true or false");
    refused("type=oci,tar=false", "needs dest=DIRECTORY");
    refused("type=oci,tar=false,dest=-", "needs dest=DIRECTORY");
    refused("type=oci,dest=", "needs dest=FILE");
    refused("type=local", "needs dest=DIRECTORY");
    refused("type=docker", "needs dest=FILE");
    refused("type=oci,compression=lzma", "wanted uncompressed, gzip or zstd");
    refused("type=oci,compression-level=10", "0 to 9 for gzip");
    refused("type=oci,compression=zstd,compression-level=0", "1 to 22 for zstd");
    refused("type=oci,compression-level=-1", "a number");
    refused("type=oci,compression=uncompressed,compression-level=1", "no level");
    refused("type=oci,name=Foo", "lower case");
    refused("type=oci,source-date-epoch=now", "seconds since 1970");
    refused("type=oci,annotation.=x", "annotation[-index");
    refused("type=oci,annotation[linux/amd64=x", "annotation[-index");
    refused("type=oci,annotation[a//b].k=x", "is not a platform");
    refused("type=oci,annotation-index[linux/amd64].k=x", "an index has none");
    refused(r#"type=oci,"name=a"#, "no closing");
}
