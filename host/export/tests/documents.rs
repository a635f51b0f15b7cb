//! Config, manifest, index: byte for byte what BuildKit v0.32.2 made of the same layers (golden data).
use std::collections::BTreeMap;

use rhost_export::{
    Annotations, AssembleOptions, BuiltImage, Compression, ExportError, ImageName, LayerBlob, LayerKind, LayerMeta,
    MediaTypes, MemoryBlobs, Placement, assemble, finish_config, image_id, metadata_json,
};
use rhost_llb::{DiffId, Digest, Platform};
use serde_json::{Value, json};

use crate::kit::{image, options};

const CONFIG: &str = r#"{"architecture":"amd64","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/","Labels":{"x":"y"}},"created":"2026-11-21T08:52:39.074397707Z","history":[{"created":"2026-11-21T08:52:39.075546329Z","created_by":"COPY a /a # buildkit","comment":"buildkit.dockerfile.v0"},{"created":"2026-11-21T08:52:39.074397707Z","created_by":"COPY b /d/b # buildkit","comment":"buildkit.dockerfile.v0"},{"created":"2026-11-21T08:52:39.074397707Z","created_by":"LABEL x=y","comment":"buildkit.dockerfile.v0","empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e5b888e1eb4887a51efaef53a5855dff1243061b969b82de2682bb9b2fdea6d2","sha256:2527eab21d38d0f67ac3bae559ee89ecab863720b24b6983deff0c2175842530"]}}"#;
const MANIFEST: &str = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:7ad7f19add8ab3a47b96179c588d662a3207105886d5cd38692141a1d2b25c12",
    "size": 761
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:f87451eb02a2d05031a73f99adc8ea74b214b43b968646212313e634d19100c4",
      "size": 100
    },
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:6e2cfa706a781078a30a89e09b5294573e1ddaa26bdcfe3d17730ed9c02f693d",
      "size": 130
    }
  ]
}"#;

/// The frontend's half of `CONFIG`.
const FRONTEND: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/","Labels":{"x":"y"}},"rootfs":{"type":"","diff_ids":null},"history":[{"created_by":"COPY a /a # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"COPY b /d/b # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"LABEL x=y","comment":"buildkit.dockerfile.v0","empty_layer":true}]}"#;

fn linux() -> Platform {
    Platform::new("linux", "amd64", "")
}

fn meta(created: &str) -> LayerMeta {
    LayerMeta { created: Some(created.parse().unwrap()), description: "made".to_owned() }
}

fn golden() -> BuiltImage {
    let layer = |diff_id: &str, digest: &str, size| LayerBlob {
        diff_id: diff_id.parse().unwrap(),
        digest: digest.parse().unwrap(),
        size,
        kind: LayerKind::Gzip,
    };
    BuiltImage {
        platform: linux(),
        config: FRONTEND.into(),
        layers: vec![
            layer(
                "sha256:e5b888e1eb4887a51efaef53a5855dff1243061b969b82de2682bb9b2fdea6d2",
                "sha256:f87451eb02a2d05031a73f99adc8ea74b214b43b968646212313e634d19100c4",
                100,
            ),
            layer(
                "sha256:2527eab21d38d0f67ac3bae559ee89ecab863720b24b6983deff0c2175842530",
                "sha256:6e2cfa706a781078a30a89e09b5294573e1ddaa26bdcfe3d17730ed9c02f693d",
                130,
            ),
        ],
        layer_metas: vec![meta("2026-11-21T08:52:39.075546329Z"), meta("2026-11-21T08:52:39.074397707Z")],
        base_history: 0,
        rewritten: Vec::new(),
        source_date_epoch: None,
    }
}

#[test]
fn documents_equal_buildkits() {
    let blobs = MemoryBlobs::new();
    let image = assemble(&[golden()], &options(), &blobs).unwrap();
    let config = blobs.get(image.config.as_ref().unwrap().digest).unwrap();
    assert_eq!(std::str::from_utf8(&config).unwrap(), CONFIG);
    let manifest = blobs.get(image.descriptor.digest).unwrap();
    assert_eq!(std::str::from_utf8(&manifest).unwrap(), MANIFEST);
    let descriptor = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:bec4c0e335de7af2cb4a642925b2158aef75d85fb92e67c1b2c6b30f41e5f88b","size":664,"annotations":{"org.opencontainers.image.created":"2026-11-21T08:52:39Z"},"platform":{"architecture":"amd64","os":"linux"}}"#;
    assert_eq!(serde_json::to_string(&image.descriptor).unwrap(), descriptor);
    assert_eq!(image.blobs.len(), 4);
}

#[test]
fn docker_media_types() {
    let blobs = MemoryBlobs::new();
    let options = AssembleOptions { media_types: MediaTypes::Docker, ..options() };
    let image = assemble(&[golden()], &options, &blobs).unwrap();
    let manifest = &image.manifests[0];
    assert_eq!(manifest.media_type, "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest.config.media_type, "application/vnd.docker.container.image.v1+json");
    assert_eq!(manifest.layers[0].media_type, "application/vnd.docker.image.rootfs.diff.tar.gzip");
}

fn config_of(frontend: &str, layers: usize, metas: &[LayerMeta], base: usize, epoch: Option<i64>) -> Value {
    let diff_ids: Vec<DiffId> = (0..layers).map(|n| DiffId(Digest::of(n.to_le_bytes()))).collect();
    let epoch = epoch.map(|seconds| jiff::Timestamp::from_second(seconds).unwrap());
    let bytes = finish_config(&linux(), frontend.as_bytes(), &diff_ids, metas, base, epoch).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn with_history(history: &str) -> String {
    format!(r#"{{"architecture":"amd64","os":"linux","history":[{history}]}}"#)
}

/// The times in a history, `-` before those of empty layers.
fn times(config: &Value) -> Vec<String> {
    let entries = config["history"].as_array().unwrap().iter();
    let mark = |entry: &Value| if entry["empty_layer"] == true { "-" } else { "" };
    entries.map(|entry| format!("{}{}", mark(entry), entry["created"].as_str().unwrap_or("none"))).collect()
}

#[test]
fn layers_without_history_get_one() {
    let metas = [meta("2020-01-01T00:00:00Z"), meta("2021-01-01T00:00:00Z")];
    let config = config_of(&with_history(r#"{"created_by":"COPY"}"#), 2, &metas, 0, None);
    let added =
        json!({"created": "2021-01-01T00:00:00Z", "created_by": "made", "comment": "buildkit.exporter.image.v0"});
    assert_eq!(config["history"][1], added);
    assert_eq!(config["created"], "2021-01-01T00:00:00Z");
}

#[test]
fn history_without_layers_becomes_empty() {
    let history = r#"{"created_by":"a"},{"created_by":"b"},{"created_by":"c"}"#;
    let config = config_of(&with_history(history), 1, &[meta("2020-01-01T00:00:00Z")], 0, None);
    assert_eq!(times(&config), ["2020-01-01T00:00:00Z", "-2020-01-01T00:00:00Z", "-2020-01-01T00:00:00Z"]);
}

#[test]
fn entries_without_layer_take_the_time_of_the_first_new_layer() {
    let history = r#"{"created":"2001-01-01T00:00:00Z"},{"empty_layer":true},{},{"empty_layer":true}"#;
    let metas = [LayerMeta::default(), meta("2020-01-01T00:00:00Z")];
    let config = config_of(&with_history(history), 2, &metas, 1, None);
    let new = "2020-01-01T00:00:00Z";
    assert_eq!(
        times(&config),
        ["2001-01-01T00:00:00Z".to_owned(), format!("-{new}"), new.to_owned(), format!("-{new}")]
    );
}

#[test]
fn only_metadata_on_a_base_keeps_the_bases_time() {
    let history = r#"{"created":"2001-01-01T00:00:00Z"},{"empty_layer":true,"created_by":"ENV A=B"}"#;
    let config = config_of(&with_history(history), 1, &[LayerMeta::default()], 1, None);
    assert_eq!(times(&config), ["2001-01-01T00:00:00Z", "-2001-01-01T00:00:00Z"]);
    assert_eq!(config["created"], "2001-01-01T00:00:00Z");
}

#[test]
fn an_empty_image_is_valid_json_without_nulls_in_lists() {
    let config = config_of(&with_history(""), 0, &[], 0, None);
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": null}));
    assert_eq!(config["created"], Value::Null);
}

#[test]
fn the_epoch_clamps_new_times_and_leaves_the_bases() {
    let history = r#"{"created":"2011-01-01T00:00:00+02:00"},{},{"empty_layer":true}"#;
    let frontend = with_history(history).replace(r#""os""#, r#""created":"2015-01-01T00:00:00Z","os""#);
    let metas = [LayerMeta::default(), meta("2020-01-01T00:00:00Z")];
    let config = config_of(&frontend, 2, &metas, 1, Some(1000));
    assert_eq!(times(&config), ["2011-01-01T00:00:00+02:00", "1970-01-01T00:16:40Z", "-1970-01-01T00:16:40Z"]);
    assert_eq!(config["created"], "1970-01-01T00:16:40Z");
    let later = config_of(&frontend, 2, &metas, 1, Some(4_000_000_000));
    assert_eq!(later["created"], "2015-01-01T00:00:00Z");
}

#[test]
fn unknown_fields_stay_and_go_escapes_apply() {
    let frontend = r#"{"os":"linux","variant":"v8","architecture":"arm64","config":{"Healthcheck":{"Interval":5000000000},"Labels":{"z":"<&>","a":"é"}},"moby.buildkit.cache.v0":"x"}"#;
    let bytes = finish_config(&linux(), frontend.as_bytes(), &[], &[], 0, None).unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        r#"{"architecture":"arm64","config":{"Healthcheck":{"Interval":5000000000},"Labels":{"z":"\u003c\u0026\u003e","a":"é"}},"created":null,"history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":null},"variant":"v8"}"#
    );
}

#[test]
fn bad_configs_are_refused() {
    for (config, wanted) in [
        ("", "EOF"),
        ("[]", "invalid type"),
        ("{}", "`architecture` is missing"),
        (r#"{"architecture":1,"os":"linux"}"#, "`architecture` is missing or no string"),
        (r#"{"architecture":"amd64","os":""}"#, "`os` is missing"),
        (r#"{"architecture":"amd64","os":"linux","history":{}}"#, "`history`"),
        (r#"{"architecture":"amd64","os":"linux","history":[{"created":"now"}]}"#, "`history.created` is `now`"),
        (r#"{"architecture":"amd64","os":"linux","created":7}"#, "`created` is `7`"),
    ] {
        let error = finish_config(&linux(), config.as_bytes(), &[], &[], 0, None).unwrap_err().to_string();
        assert!(error.contains(wanted), "{config}: {error}");
    }
}

#[test]
fn several_platforms_get_an_index() {
    let (image, blobs) = image(&["amd64", "arm64"], Compression::GZIP, &options());
    assert_eq!(image.descriptor.media_type, "application/vnd.oci.image.index.v1+json");
    assert!(image.config.is_none() && image.descriptor.platform.is_none());
    let index: Value = serde_json::from_slice(&blobs.get(image.descriptor.digest).unwrap()).unwrap();
    let platforms: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|m| &m["platform"]["architecture"]).collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert_eq!(index["manifests"][0].get("annotations"), None);
    assert_eq!(image_id(&image), image.descriptor.digest.0);
}

#[test]
fn an_index_for_one_platform_when_asked() {
    let options = AssembleOptions { index: true, ..options() };
    let (image, _) = image(&["arm64"], Compression::GZIP, &options);
    assert_eq!(image.descriptor.media_type, "application/vnd.oci.image.index.v1+json");
}

#[test]
fn annotations_go_where_they_are_sent() {
    let mut annotations = Annotations::new();
    let arm = Platform::new("linux", "arm64", "");
    annotations.add(Placement::Manifest, None, "a", "all");
    annotations.add(Placement::Manifest, Some(arm.clone()), "a", "arm");
    annotations.add(Placement::ManifestDescriptor, Some(arm), "d", "e");
    annotations.add(Placement::Index, None, "x", "y");
    annotations.add(Placement::IndexDescriptor, None, "g", "h");
    let options = AssembleOptions { annotations, source_date_epoch: Some(1000), ..options() };
    let (image, blobs) = image(&["amd64", "arm64"], Compression::GZIP, &options);
    assert_eq!(image.manifests[0].annotations["a"], "all");
    assert_eq!(image.manifests[1].annotations["a"], "arm");
    let index: Value = serde_json::from_slice(&blobs.get(image.descriptor.digest).unwrap()).unwrap();
    assert_eq!(index["annotations"], json!({"x": "y"}));
    assert_eq!(index["manifests"][1]["annotations"], json!({"d": "e"}));
    let on_top = &image.descriptor.annotations;
    assert_eq!(
        (on_top["g"].as_str(), on_top["org.opencontainers.image.created"].as_str()),
        ("h", "1970-01-01T00:16:40Z")
    );
}

#[test]
fn annotations_that_would_go_nowhere_are_refused() {
    let refused = |placement, platform: Option<&str>| {
        let mut annotations = Annotations::new();
        annotations.add(placement, platform.map(|p| p.parse().unwrap()), "k", "v");
        assemble(&[golden()], &AssembleOptions { annotations, ..options() }, &MemoryBlobs::new()).unwrap_err()
    };
    assert!(matches!(refused(Placement::Index, None), ExportError::IndexAnnotation { .. }));
    assert!(matches!(refused(Placement::IndexDescriptor, None), ExportError::IndexAnnotation { .. }));
    assert!(matches!(refused(Placement::Manifest, Some("linux/arm64")), ExportError::AnnotationPlatform { .. }));
}

#[test]
fn impossible_requests_are_refused() {
    let blobs = MemoryBlobs::new();
    assert!(matches!(assemble(&[], &options(), &blobs), Err(ExportError::Empty)));
    assert!(matches!(assemble(&[golden(), golden()], &options(), &blobs), Err(ExportError::DuplicatePlatform { .. })));
    let epoch = AssembleOptions { source_date_epoch: Some(i64::MAX), ..options() };
    assert!(matches!(assemble(&[golden()], &epoch, &blobs), Err(ExportError::BadEpoch { .. })));
}

#[test]
fn metadata_is_what_buildx_writes() {
    let image = assemble(&[golden()], &options(), &MemoryBlobs::new()).unwrap();
    let names: Vec<ImageName> = vec!["foo:x".parse().unwrap(), "bar/b".parse().unwrap()];
    let more = BTreeMap::from([("buildx.build.ref".to_owned(), json!("a/b/c"))]);
    let wanted = r#"{
  "buildx.build.ref": "a/b/c",
  "containerimage.config.digest": "sha256:7ad7f19add8ab3a47b96179c588d662a3207105886d5cd38692141a1d2b25c12",
  "containerimage.descriptor": {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "sha256:bec4c0e335de7af2cb4a642925b2158aef75d85fb92e67c1b2c6b30f41e5f88b",
    "size": 664,
    "annotations": {
      "org.opencontainers.image.created": "2026-11-21T08:52:39Z"
    },
    "platform": {
      "architecture": "amd64",
      "os": "linux"
    }
  },
  "containerimage.digest": "sha256:bec4c0e335de7af2cb4a642925b2158aef75d85fb92e67c1b2c6b30f41e5f88b",
  "image.name": "docker.io/library/foo:x,docker.io/bar/b:latest"
}"#;
    assert_eq!(String::from_utf8(metadata_json(Some(&image), &names, &more)).unwrap(), wanted);
    assert_eq!(metadata_json(None, &names, &BTreeMap::new()), b"{}");
    assert_eq!(image_id(&image).to_string(), "sha256:7ad7f19add8ab3a47b96179c588d662a3207105886d5cd38692141a1d2b25c12");
}
