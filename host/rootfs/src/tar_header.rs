//! `TarHeader`: the headers of one tar entry, with the choices that Go's archive/tar makes, so that a layer of rhost's has the bytes, and the
//! diff id, of BuildKit's layer of the same tree.
//!
//! ustar where it has room (POSIX pax, "ustar Interchange Format"); else a PAX header with exactly the records that ustar has no room for, sorted,
//! under the name `DIR/PaxHeaders.0/FILE`.
use std::collections::BTreeMap;

const NAME: usize = 100;
const PREFIX: usize = 155;

/// Type flags that layers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    File = b'0' as isize,
    Link = b'1' as isize,
    Symlink = b'2' as isize,
    Char = b'3' as isize,
    Block = b'4' as isize,
    Dir = b'5' as isize,
    Fifo = b'6' as isize,
}

/// One entry. No user and group names: layers have none.
#[derive(Debug, Clone)]
pub(crate) struct TarHeader<'a> {
    /// Relative, without `.` components; a directory's ends in `/`.
    pub(crate) name: &'a [u8],
    pub(crate) flag: Flag,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes that follow.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// Target of a link, else empty.
    pub(crate) link: &'a [u8],
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Attributes; written as `SCHILY.xattr.NAME`.
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl TarHeader<'_> {
    /// The blocks that stand before the entry's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let split = split(self.name);
        let mut ustar = self.xattrs.is_empty();
        if !self.name.is_ascii() || self.name.len() > NAME {
            ustar &= split.is_some();
            records.insert(b"path".into(), self.name.into());
        }
        if !self.link.is_ascii() || self.link.len() > NAME {
            ustar = false;
            records.insert(b"linkpath".into(), self.link.into());
        }
        let mut number = |key: &str, value: i64, width: usize| {
            if !fits(value, width) {
                ustar = false;
                records.insert(key.into(), value.to_string().into_bytes());
            }
        };
        number("uid", self.uid.into(), 8);
        number("gid", self.gid.into(), 8);
        number("size", i64::try_from(self.size).unwrap_or(i64::MAX), 12);
        number("mtime", self.mtime, 12);
        if ustar {
            let (prefix, name) = split.unwrap_or((b"", self.name));
            return self.block(name, prefix).to_vec();
        }
        for (key, value) in self.xattrs {
            records.insert([b"SCHILY.xattr.".as_slice(), key].concat(), value.clone());
        }
        let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut bytes = extension(self.name, text.len()).to_vec();
        bytes.extend_from_slice(&text);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend_from_slice(&self.block(&ascii(self.name), b""));
        bytes
    }

    fn block(&self, name: &[u8], prefix: &[u8]) -> [u8; 512] {
        let mut block = [0; 512];
        text(&mut block[..NAME], name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], self.uid.into());
        octal(&mut block[116..124], self.gid.into());
        octal(&mut block[124..136], i64::try_from(self.size).unwrap_or(i64::MAX));
        octal(&mut block[136..148], self.mtime);
        block[156] = self.flag as u8;
        text(&mut block[157..257], &ascii(self.link));
        octal(&mut block[329..337], self.device.0.into());
        octal(&mut block[337..345], self.device.1.into());
        text(&mut block[345..500], prefix);
        seal(block)
    }
}

/// The header before the records of `name`.
fn extension(name: &[u8], length: usize) -> [u8; 512] {
    let at = name.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let whole = [&name[..at], b"PaxHeaders.0/", &name[at..]].concat();
    let mut shown = ascii(&whole);
    shown.truncate(NAME);
    while shown.last() == Some(&b'/') {
        shown.pop();
    }
    let mut block = [0; 512];
    text(&mut block[..NAME], &shown);
    for field in [100..108, 108..116, 116..124, 136..148] {
        octal(&mut block[field], 0);
    }
    octal(&mut block[124..136], i64::try_from(length).unwrap_or(i64::MAX));
    block[156] = b'x';
    seal(block)
}

/// Magic, version, checksum.
fn seal(mut block: [u8; 512]) -> [u8; 512] {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    octal(&mut block[148..155], sum.into());
    block
}

/// Prefix and name as ustar has them, if it can hold `name` in two parts and not in one.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME || !name.is_ascii() {
        return None;
    }
    let end = if name.len() > PREFIX + 1 {
        PREFIX + 1
    } else if name.ends_with(b"/") {
        name.len() - 1
    } else {
        name.len()
    };
    let slash = name[..end].iter().rposition(|b| *b == b'/').filter(|at| *at > 0)?;
    let rest = &name[slash + 1..];
    (!rest.is_empty() && rest.len() <= NAME && slash <= PREFIX).then_some((&name[..slash], rest))
}

/// One record: its own length in decimal, key, value.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if rest + digits(length) != length {
        length = rest + digits(length);
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// What a field of the plain header can show of `text`.
fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

fn text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    // Some readers take any name that ends in a slash for a directory's: one that was cut there loses it.
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let end = field.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
        field[end] = 0;
    }
}

fn fits(value: i64, width: usize) -> bool {
    value >= 0 && value < 1 << ((width - 1) * 3)
}

/// A number of a fixed width, NUL at its end; 0 where it has no room (a record has it then).
fn octal(field: &mut [u8], value: i64) {
    let value = if fits(value, field.len()) { value } else { 0 };
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
    field[digits.len()] = 0;
}
