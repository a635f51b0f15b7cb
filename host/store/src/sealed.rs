//! Files that carry their checksum: a word that names the layout, BLAKE3 of the body, the body. For what is kept only to be fast: a file is
//! whole or as good as not there.
use std::fs;
use std::io;
use std::path::Path;

/// Bytes of the checksum.
const CHECKSUM: usize = 32;

/// `body` with its head.
pub fn seal(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    [&magic[..], blake3::hash(body).as_bytes(), body].concat()
}

/// The body of what [`seal`] made; `None` for anything else.
pub fn unseal<'b>(magic: &[u8; 8], bytes: &'b [u8]) -> Option<&'b [u8]> {
    let (sum, body) = bytes.strip_prefix(&magic[..])?.split_at_checked(CHECKSUM)?;
    (blake3::hash(body).as_bytes() == sum).then_some(body)
}

/// Writes `body` to `place`, sealed: beside it, then renamed, so that it is whole or not there. Of two writers the last stays. Makes the directory.
///
/// # Errors
/// Those of the disk; what was there stays.
pub(crate) fn write(place: &Path, magic: &[u8; 8], body: &[u8]) -> io::Result<()> {
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    let partial = place.with_file_name(crate::lock::unique_name());
    let written = fs::write(&partial, seal(magic, body)).and_then(|()| fs::rename(&partial, place));
    if written.is_err() {
        // What cannot be removed goes with a sweep.
        let _ = fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_whole_is_read() {
        let sealed = seal(b"magic--1", b"body");
        assert_eq!(unseal(b"magic--1", &sealed), Some(&b"body"[..]));
        assert_eq!(unseal(b"magic--2", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(unseal(b"magic--1", &sealed[..cut]), None, "{cut}");
        }
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(unseal(b"magic--1", &other), None, "{at}");
        }
        assert_eq!(unseal(b"magic--1", &seal(b"magic--1", b"")), Some(&b""[..]));
    }
}
