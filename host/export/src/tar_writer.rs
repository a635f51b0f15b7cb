//! One tar entry with everything a file has: a ustar header, and a PAX header before it where ustar is too small.
use std::io::{self, Read, Write};

use rhost_rootfs::{Kind, Stat};

/// What a tar entry is, beyond its metadata.
pub(crate) enum Content<'a> {
    /// Directory, device, pipe.
    Nothing,
    /// A regular file's bytes, exactly as many as its stat says.
    File(&'a mut dyn Read),
    /// Target of a symlink.
    Symlink(&'a [u8]),
    /// Path in the archive of a file that it is another name of.
    Hardlink(&'a [u8]),
}

/// Writes one entry. `name` is relative; directories get their slash here. Times are in whole seconds.
pub(crate) fn append(
    out: &mut dyn Write,
    name: &[u8],
    stat: &Stat,
    mtime: i64,
    xattrs: &[(String, Vec<u8>)],
    content: Content<'_>,
) -> io::Result<()> {
    let mut name = name.to_vec();
    if stat.kind == Kind::Dir {
        name.push(b'/');
    }
    let (kind, link, size) = match &content {
        Content::Hardlink(target) => (tar::EntryType::Link, *target, 0),
        Content::Symlink(target) => (tar::EntryType::Symlink, *target, 0),
        Content::File(_) => (tar::EntryType::Regular, &[][..], stat.size),
        Content::Nothing => {
            let kind = match stat.kind {
                Kind::Dir => tar::EntryType::Directory,
                Kind::CharDevice => tar::EntryType::Char,
                Kind::BlockDevice => tar::EntryType::Block,
                Kind::Fifo => tar::EntryType::Fifo,
                Kind::File | Kind::Symlink | Kind::Socket => return Err(io::ErrorKind::Unsupported.into()),
            };
            (kind, &[][..], 0)
        }
    };
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(stat.mode);
    let mut records = Vec::new();
    let mut pax = |key: &str, value: &[u8]| record(&mut records, key, value);
    // Octal fields: 7 digits for ids, 11 for size and time.
    let ids = [("uid", u64::from(stat.owner.uid)), ("gid", u64::from(stat.owner.gid))];
    for (key, id) in ids {
        if id > 0o7_777_777 {
            pax(key, id.to_string().as_bytes());
        }
    }
    let fits = |id: u32| if id > 0o7_777_777 { 0 } else { u64::from(id) };
    header.set_uid(fits(stat.owner.uid));
    header.set_gid(fits(stat.owner.gid));
    if size > 0o77_777_777_777 {
        pax("size", size.to_string().as_bytes());
    }
    header.set_size(if size > 0o77_777_777_777 { 0 } else { size });
    match u64::try_from(mtime) {
        Ok(seconds) if seconds <= 0o77_777_777_777 => header.set_mtime(seconds),
        _ => {
            header.set_mtime(0);
            pax("mtime", mtime.to_string().as_bytes());
        }
    }
    {
        let ustar = header.as_ustar_mut().ok_or(io::ErrorKind::Unsupported)?;
        fill(&mut ustar.name, &name, "path", &mut pax);
        fill(&mut ustar.linkname, link, "linkpath", &mut pax);
    }
    if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
        header.set_device_major(stat.rdev.0)?;
        header.set_device_minor(stat.rdev.1)?;
    }
    for (key, value) in xattrs {
        pax(&format!("SCHILY.xattr.{key}"), value);
    }
    if !records.is_empty() {
        let mut extended = tar::Header::new_ustar();
        extended.set_entry_type(tar::EntryType::XHeader);
        fill(
            &mut extended.as_ustar_mut().ok_or(io::ErrorKind::Unsupported)?.name,
            b"PaxHeaders.0/entry",
            "",
            &mut |_, _| (),
        );
        extended.set_mode(0o644);
        extended.set_uid(0);
        extended.set_gid(0);
        extended.set_mtime(0);
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        out.write_all(extended.as_bytes())?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    if let Content::File(reader) = content {
        let copied = io::copy(&mut reader.take(size), out)?;
        if copied != size {
            let reason = format!("the file shrank from {size} to {copied} bytes while it was read");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        pad(out, size)?;
    }
    Ok(())
}

/// Ends an archive.
pub(crate) fn finish(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 1024])
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = (512 - size % 512) % 512;
    out.write_all(&[0; 512][..rest as usize])
}

/// Puts `value` into a header field; a PAX record says it in full where the field is too short or the text not ASCII.
fn fill(field: &mut [u8; 100], value: &[u8], key: &str, pax: &mut dyn FnMut(&str, &[u8])) {
    let kept = value.len().min(field.len());
    field[..kept].copy_from_slice(&value[..kept]);
    if kept < value.len() || !value.is_ascii() {
        pax(key, value);
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting itself (POSIX pax, extended header).
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
#[path = "tar_writer_tests.rs"]
mod tests;
