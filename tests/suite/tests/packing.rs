//! Packing of large layers: what an earlier layer had is used again, and the image has the bytes that a store without it makes.
use std::fs;

use rhost_kit::TestHost;

use crate::running::{context, host};

const FILES: usize = 600;
const TIME: u64 = 1_700_000_000;

/// Text that compresses as text does, different in each file.
fn text(seed: usize) -> String {
    let mut state = seed as u64 * 2 + 1;
    let mut out = String::new();
    while out.len() < 12_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.push_str(["make ", "model ", "of the ", "layer; ", "once, "][(state >> 60) as usize % 5]);
        out.push_str(&(state >> 40).to_string());
    }
    out
}

/// A context whose layer has many blocks; `changed` files have another text.
fn tree(host: &TestHost, changed: &[usize]) -> String {
    let texts: Vec<(String, String)> = (0..FILES)
        .map(|file| {
            let text = if changed.contains(&file) { text(file + FILES) + "and more\n" } else { text(file) };
            (format!("tree/d{}/f{file}", file / 20), text)
        })
        .collect();
    let mut all = vec![("Dockerfile", "FROM scratch\nCOPY tree /tree/\n")];
    all.extend(texts.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let ctx = context(host, "ctx", &all);
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(TIME);
    let set = |path: &str| {
        fs::File::open(format!("{ctx}/{path}")).and_then(|file| file.set_modified(at)).expect("a time");
    };
    texts.iter().for_each(|(path, _)| set(path));
    (0..FILES / 20).for_each(|number| set(&format!("tree/d{number}")));
    set("tree");
    ctx
}

/// The archive that comes of it.
fn archive(host: &TestHost, changed: &[usize], compression: &str) -> Vec<u8> {
    let ctx = tree(host, changed);
    let file = host.dir().join("image.tar");
    let output = format!("type=oci,compression={compression},dest={}", file.display());
    let epoch = format!("SOURCE_DATE_EPOCH={TIME}");
    host.run(["build", "--build-arg", &epoch, "-o", &output, &ctx]).expect("ran").success();
    fs::read(file).expect("an archive")
}

#[test]
fn a_layer_after_another_is_what_it_is_without() {
    for compression in ["gzip", "zstd"] {
        // Each its own store: one that has a layer in another compression exports that.
        let (Some((host, _registry)), Some((cold, _other))) = (host(), host()) else { return };
        archive(&host, &[], compression);
        let blocks = host.root().join("blocks-v1");
        let before = fs::metadata(&blocks).expect("blocks of a large layer are remembered").len();
        let changed = archive(&host, &[301], compression);
        assert!(fs::metadata(&blocks).expect("still").len() > before);
        assert!(changed == archive(&cold, &[301], compression), "{compression}: one file changed");
        // What is remembered lies in blobs that have gone bad: it is made again.
        for entry in fs::read_dir(host.root().join("blobs-v1/blobs/sha256")).expect("blobs").flatten() {
            let mut bytes = fs::read(entry.path()).expect("a blob");
            if bytes.len() > 100_000 {
                let length = bytes.len();
                (1..8).for_each(|part| bytes[length / 8 * part] ^= 0xff);
                fs::write(entry.path(), bytes).expect("damaged");
            }
        }
        let changed = archive(&host, &[17, 301], compression);
        assert!(changed == archive(&cold, &[17, 301], compression), "{compression}: after damage");
        fs::write(&blocks, b"nothing that was ever written here").expect("damaged");
        let changed = archive(&host, &[5, 17], compression);
        assert!(changed == archive(&cold, &[5, 17], compression), "{compression}: after another damage");
    }
}
