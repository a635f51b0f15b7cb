//! A registry that cuts, lies, and asks for patience.
use rhost_llb::{BlobDigest, Digest};
use rhost_registry::{BlobSink as _, Error, ImageSource as _, MemorySink, pull_blobs, resolve};

use crate::faulty::{Faulty, Reply, Seen};
use crate::support::{Shelf, anonymous, client, layer, name, noise, sample};

fn range_start(seen: &Seen) -> Option<usize> {
    seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Answers from `from` on, as a server with ranges does.
fn partial(bytes: &[u8], from: usize) -> Reply {
    Reply::new(206, &bytes[from..]).header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
}

async fn fetch(server: &Faulty, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut sink = MemorySink::new(1 << 24);
    let image = name(&format!("{}/a", server.address));
    anonymous().blob(&image, &layer(bytes), &mut sink).await?;
    Ok(sink.into_bytes().to_vec())
}

#[tokio::test]
async fn a_cut_blob_is_resumed() {
    let bytes = noise(300_000);
    let served = bytes.clone();
    let server = Faulty::start(move |seen, before| match (range_start(seen), before) {
        (None, 0) => Reply::new(200, &served).cut(100_000),
        (Some(from), 1) => partial(&served, from).cut(50_000),
        (Some(from), _) => partial(&served, from),
        _ => Reply::new(500, ""),
    })
    .await;
    assert_eq!(fetch(&server, &bytes).await.unwrap(), bytes);
    let starts: Vec<_> = server.seen().iter().map(range_start).collect();
    assert_eq!(starts, [None, Some(100_000), Some(150_000)]);
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_again() {
    let bytes = noise(200_000);
    let served = bytes.clone();
    let server = Faulty::start(move |_, before| match before {
        0 => Reply::new(200, &served).cut(70_000),
        _ => Reply::new(200, &served),
    })
    .await;
    assert_eq!(fetch(&server, &bytes).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_wrong_range_is_refused() {
    let bytes = noise(1000);
    let served = bytes.clone();
    let server = Faulty::start(move |_, before| match before {
        0 => Reply::new(200, &served).cut(500),
        _ => partial(&served, 400),
    })
    .await;
    let error = fetch(&server, &bytes).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_short_blob_is_truncated() {
    let bytes = noise(1000);
    for past_end in [416, 200] {
        let served = bytes.slice(..600);
        let server = Faulty::start(move |seen, _| match range_start(seen) {
            Some(_) if past_end == 416 => Reply::new(416, ""),
            _ => Reply::new(200, &served),
        })
        .await;
        match fetch(&server, &bytes).await {
            Err(Error::Truncated { wanted: 1000, got: 600, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_long_blob_is_too_large() {
    let bytes = noise(1000);
    let server = Faulty::start(move |_, _| Reply::new(200, noise(1001))).await;
    assert!(matches!(fetch(&server, &bytes).await, Err(Error::TooLarge { limit: 1000, .. })));
}

#[tokio::test]
async fn other_bytes_are_a_mismatch() {
    let bytes = noise(1000);
    let server = Faulty::start(move |_, _| Reply::new(200, vec![7; 1000])).await;
    match fetch(&server, &bytes).await {
        Err(Error::DigestMismatch { wanted, found, .. }) => {
            assert_eq!(wanted, BlobDigest(Digest::of(&bytes)));
            assert_eq!(found, BlobDigest(Digest::of([7; 1000])));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lying_mirror_is_passed_over() {
    let bytes = noise(50_000);
    let served = bytes.clone();
    let mirror = Faulty::start(move |_, _| Reply::new(200, vec![7; 50_000])).await;
    let origin = Faulty::start(move |_, _| Reply::new(200, &served)).await;
    let toml = format!("[registry.\"{}\"]\nmirrors = [\"{}/some/prefix\"]", origin.address, mirror.address);
    let client = client(&toml, std::sync::Arc::new(rhost_registry::NoCredentials));
    let mut sink = MemorySink::new(1 << 20);
    let image = name(&format!("{}/a", origin.address));
    client.blob(&image, &layer(&bytes), &mut sink).await.unwrap();
    assert_eq!(sink.into_bytes(), bytes);
    let path = &mirror.seen()[0].path;
    assert!(path.starts_with("/v2/some/prefix/a/blobs/sha256:") && path.contains("?ns=127.0.0.1"), "{path}");
}

#[tokio::test]
async fn a_blob_begun_at_a_mirror_ends_at_the_origin() {
    let bytes = noise(90_000);
    let (half, whole) = (bytes.clone(), bytes.clone());
    let mirror = Faulty::start(move |seen, _| match range_start(seen) {
        None => Reply::new(200, &half).cut(40_000),
        Some(_) => Reply::new(404, ""),
    })
    .await;
    let origin = Faulty::start(move |seen, _| partial(&whole, range_start(seen).unwrap())).await;
    let toml = format!("[registry.\"{}\"]\nmirrors = [\"{}\"]", origin.address, mirror.address);
    let mut sink = MemorySink::new(1 << 20);
    let client = client(&toml, std::sync::Arc::new(rhost_registry::NoCredentials));
    client.blob(&name(&format!("{}/a", origin.address)), &layer(&bytes), &mut sink).await.unwrap();
    assert_eq!(sink.into_bytes(), bytes);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let bytes = noise(10);
        let served = bytes.clone();
        let server = Faulty::start(move |_, before| match before {
            0 => Reply::new(status, "").header("retry-after", "0"),
            1 => Reply::new(status, "").header("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),
            _ => Reply::new(200, &served),
        })
        .await;
        assert_eq!(fetch(&server, &bytes).await.unwrap(), bytes);
        assert_eq!(server.seen().len(), 3);
    }
}

#[tokio::test]
async fn patience_ends() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"come back tomorrow"}]}"#;
    let server = Faulty::start(move |_, _| Reply::new(429, body)).await;
    let error = fetch(&server, b"x").await.unwrap_err();
    assert!(
        matches!(error, Error::RateLimited { retry_after: None, .. })
            && error.to_string().contains("come back tomorrow"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_told_at_once() {
    let server = Faulty::start(move |_, _| Reply::new(429, "busy").header("retry-after", "3600")).await;
    let error = fetch(&server, b"x").await.unwrap_err();
    assert!(error.to_string().contains("busy; it wants to be asked again in 3600 s"), "{error}");
    assert!(error.hint().unwrap().contains("docker login"), "{:?}", error.hint());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let bytes = noise(10);
    let served = bytes.clone();
    let server = Faulty::start(move |_, before| match before {
        0 => Reply::new(200, &served).cut(0),
        _ => Reply::new(200, &served),
    })
    .await;
    assert_eq!(fetch(&server, &bytes).await.unwrap(), bytes);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = anonymous().manifest(&name(&format!("{free}/a:1"))).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { registry, .. } if *registry == free.to_string()), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_refused() {
    let server = Faulty::start(move |_, _| Reply::new(200, "{}")).await;
    let image = name(&format!("{}/a", server.address)).with_digest(BlobDigest(Digest::of("other")));
    assert!(matches!(anonymous().manifest(&image).await, Err(Error::DigestMismatch { .. })));
}

#[tokio::test]
async fn hostile_manifests_are_refused() {
    let digest = Digest::of("x");
    let descriptor =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":1}}"#);
    let path = r#"{"mediaType":"x","digest":"sha256:../../../../etc/passwd","size":1}"#;
    for (body, want) in [
        ("".to_owned(), "not valid"),
        ("[]".into(), "not valid"),
        ("{}".into(), "neither"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "obsolete"),
        (r#"{"schemaVersion":3}"#.into(), "schema version 3"),
        (format!(r#"{{"schemaVersion":2,"manifests":[],"config":{descriptor}}}"#), "both"),
        (format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[{descriptor}]}}"#), "both"),
        (format!(r#"{{"schemaVersion":2,"config":{path}}}"#), "not a digest"),
        (format!(r#"{{"schemaVersion":2,"config":{}}}"#, descriptor.replace(":1}", ":-1}")), "not valid"),
        (
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{descriptor}}}"#
            ),
            "it is a manifest, but says",
        ),
        (
            format!(r#"{{"schemaVersion":2,"config":{}}}"#, descriptor.replace("oci.image.config", "other")),
            "no container image",
        ),
    ] {
        let server = Faulty::start(move |_, _| Reply::new(200, &body)).await;
        let image = name(&format!("{}/a:1", server.address));
        let error = resolve(&anonymous(), &image, &"linux/amd64".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
}

#[tokio::test]
async fn an_endless_manifest_is_too_large() {
    let server = Faulty::start(move |_, _| Reply::new(200, vec![b' '; 5 << 20])).await;
    let error = anonymous().manifest(&name(&format!("{}/a:1", server.address))).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn an_index_of_itself_ends() {
    let server = Faulty::start(move |_, before| {
        // Each level names the next by its true digest; there are more levels than rhost follows.
        let mut body = String::from(r#"{"schemaVersion":2,"manifests":[]}"#);
        let mut levels = vec![body.clone()];
        for _ in 0..8 {
            body = format!(
                r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":1}}]}}"#,
                Digest::of(&body)
            );
            levels.push(body.clone());
        }
        Reply::new(200, &levels[levels.len() - 1 - before])
    })
    .await;
    let image = name(&format!("{}/a:1", server.address));
    let error = resolve(&anonymous(), &image, &"linux/amd64".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("nested"), "{error}");
}

#[tokio::test]
async fn layers_and_diff_ids_must_pair() {
    let mut image = sample("amd64", &[noise(10)]);
    let text = String::from_utf8(image.manifest.to_vec()).unwrap();
    image.manifest = text
        .replace(r#""layers":["#, &format!(r#""layers":[{},"#, serde_json::to_string(&layer(b"x")).unwrap()))
        .into();
    let server = Faulty::start(move |seen, _| match seen.path.contains("/manifests/") {
        true => Reply::new(200, &image.manifest),
        false => Reply::new(200, &image.blobs[&image.config.digest]),
    })
    .await;
    let named = name(&format!("{}/a:1", server.address));
    let error = resolve(&anonymous(), &named, &"linux/amd64".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("2 layers, but 1 diff ids"), "{error}");
}

#[tokio::test]
async fn a_failed_blob_leaves_the_others() {
    let (good, bad) = (noise(5000), noise(6000));
    let served = good.clone();
    let wanted = Digest::of(&good).to_string();
    let server = Faulty::start(move |seen, _| match seen.path.contains(&wanted) {
        true => Reply::new(200, &served),
        false => Reply::new(404, ""),
    })
    .await;
    let shelf = Shelf::default();
    let image = name(&format!("{}/a", server.address));
    let error = pull_blobs(&anonymous(), &image, &[layer(&good), layer(&bad)], &shelf, 1).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(shelf.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_is_no_registry_error() {
    let bytes = noise(100);
    let served = bytes.clone();
    let server = Faulty::start(move |_, _| Reply::new(200, &served)).await;
    let mut sink = MemorySink::new(10);
    let image = name(&format!("{}/a", server.address));
    let error = anonymous().blob(&image, &layer(&bytes), &mut sink).await.unwrap_err();
    assert!(matches!(error, Error::Local { action: "write", .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
    sink.restart().await.unwrap();
}

#[tokio::test]
async fn foreign_text_is_cleaned() {
    let body = "\u{1b}[31mgo to https://me:hunter2@evil.io/?token=hunter2 \u{7}";
    let server = Faulty::start(move |_, _| Reply::new(418, body)).await;
    let text = fetch(&server, b"x").await.unwrap_err().to_string();
    assert!(!text.contains("hunter2") && !text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
}

/// A registry that loses part of an upload: it stores half of each chunk's bytes, cuts one answer, and tells the truth when
/// it is asked.
#[tokio::test]
async fn a_broken_upload_goes_on_where_the_registry_is() {
    let bytes = noise(9_000_000);
    let stored = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = stored.clone();
    let server = Faulty::start(move |seen, before| {
        let mut stored = kept.lock().unwrap();
        let told = |reply: Reply, length: usize| match length {
            0 => reply.header("range", "0-0").header("location", "/u/1?_state=s"),
            length => reply.header("range", format!("0-{}", length - 1)).header("location", "/u/1?_state=s"),
        };
        match seen.method.as_str() {
            "HEAD" => Reply::new(404, ""),
            "POST" => told(Reply::new(202, ""), 0),
            "GET" => told(Reply::new(204, ""), stored.len()),
            "PATCH" => {
                let start: usize = seen.header("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
                if start != stored.len() {
                    return told(Reply::new(416, ""), stored.len());
                }
                let half = if before == 3 { seen.body.len() } else { seen.body.len() / 2 + 1 };
                stored.extend_from_slice(&seen.body[..half]);
                match before {
                    2 => Reply::new(500, ""),
                    _ => told(Reply::new(202, ""), stored.len()),
                }
            }
            "PUT" => Reply::new(201, ""),
            _ => Reply::new(405, ""),
        }
    })
    .await;
    let blob = layer(&bytes);
    let source = std::collections::HashMap::from([(blob.digest, bytes.clone())]);
    let to = name(&format!("{}/a:1", server.address));
    anonymous().push_blob(&to, &blob, &source, None).await.unwrap();
    assert!(*stored.lock().unwrap() == bytes);
    let last = server.seen().pop().unwrap();
    assert!(last.path.starts_with("/u/1?_state=s&digest=sha256%3A"), "{}", last.path);
}
