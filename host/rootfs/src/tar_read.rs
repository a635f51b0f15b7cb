//! A pull reader over `tar-core`'s parser: entries as owned values, content as a bounded stream, with every byte of the archive hashed on
//! the way (the diff id covers what follows the end marker, too).
use std::io::Read;

use rhost_llb::{Digest, Hasher};
use tar_core::parse::{Limits, ParseEvent, Parser};
use tar_core::{EntryType, PaxExtensions};

use crate::path::owned;
use crate::{Error, Kind, Result, Timestamp};

/// Most bytes of extension headers of one entry. File capabilities, ACLs and long names stay far below; SELinux and user attributes may not.
const MAX_METADATA: u32 = 4 << 20;

/// One entry of an archive.
pub(crate) struct TarEntry {
    /// Name as written.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of content in the archive.
    pub(crate) size: u64,
    /// For a sparse file: where the content goes (offset, length), and the size of the file.
    pub(crate) sparse: Option<(Vec<(u64, u64)>, u64)>,
}

/// What an entry makes.
pub(crate) enum What {
    Node(Kind, (u32, u32)),
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    /// A kind that is skipped, as other tools skip it (volume labels, multi-volume parts).
    Skip,
}

pub(crate) struct TarReader<R> {
    reader: R,
    parser: Parser,
    buffer: Vec<u8>,
    /// Valid bytes of `buffer` are `start..end`.
    start: usize,
    end: usize,
    eof: bool,
    /// Content and padding of the current entry that were not read yet.
    content: u64,
    padding: u64,
    hasher: Hasher,
    total: u64,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        let limits =
            Limits { max_metadata_size: MAX_METADATA, max_path_len: Some(libc::PATH_MAX as u32), ..Limits::default() };
        let mut parser = Parser::new(limits);
        parser.set_allow_empty_path(true);
        // The parser refuses times before 1970; `convert` reads times itself and refuses the values that matter.
        parser.set_ignore_pax_errors(true);
        Self {
            reader,
            parser,
            buffer: vec![0; 256 << 10],
            start: 0,
            end: 0,
            eof: false,
            content: 0,
            padding: 0,
            hasher: Hasher::new(),
            total: 0,
        }
    }

    fn bad(&self, reason: impl ToString) -> Error {
        Error::BadArchive { offset: self.total - (self.end - self.start) as u64, reason: reason.to_string() }
    }

    /// Reads more into the buffer; false at the end of the stream.
    fn fill(&mut self) -> Result<bool> {
        if self.eof {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            if self.buffer.len() > 2 * MAX_METADATA as usize {
                return Err(self.bad("the headers of one entry are too large"));
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.eof = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.hasher.update(&self.buffer[self.end..self.end + count]);
                    self.end += count;
                    self.total += count as u64;
                    return Ok(true);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Stream { source }),
            }
        }
    }

    /// Where in the archive the content of the current entry begins, before any of it was read.
    pub(crate) fn offset(&self) -> u64 {
        self.total - (self.end - self.start) as u64
    }

    /// The next entry; content of the one before that was not read is skipped. `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<TarEntry>> {
        let mut skip = self.content + self.padding;
        (self.content, self.padding) = (0, 0);
        while skip > 0 {
            if self.start == self.end && !self.fill()? {
                return Err(self.bad("it ends inside an entry; it was cut short"));
            }
            let count = (self.end - self.start).min(usize::try_from(skip).unwrap_or(usize::MAX));
            self.start += count;
            skip -= count as u64;
        }
        loop {
            let input = &self.buffer[self.start..self.end];
            let parsed = self.parser.parse(input);
            let (consumed, entry) = match parsed {
                Err(error) => {
                    let reason = error.to_string();
                    return Err(self.bad(reason));
                }
                Ok(ParseEvent::NeedData { .. }) => {
                    if self.fill()? {
                        continue;
                    }
                    // Archives that end without the two zero blocks are accepted, as by other tools; half a header is not.
                    if self.buffer[self.start..self.end].iter().all(|b| *b == 0) {
                        return Ok(None);
                    }
                    return Err(self.bad("it ends inside a header; it was cut short"));
                }
                Ok(ParseEvent::End { .. }) => return Ok(None),
                Ok(ParseEvent::GlobalExtensions { consumed, .. }) => {
                    self.start += consumed;
                    continue;
                }
                Ok(ParseEvent::Entry { consumed, entry }) => (consumed, convert(&entry, None)),
                Ok(ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size }) => {
                    let map = sparse_map.iter().map(|s| (s.offset, s.length)).collect();
                    (consumed, convert(&entry, Some((map, real_size))))
                }
            };
            let entry = entry.map_err(|reason| self.bad(reason))?;
            self.start += consumed;
            self.content = entry.size;
            self.padding = entry.size.next_multiple_of(512) - entry.size;
            return Ok(Some(entry));
        }
    }

    /// Some bytes of the current entry's content; empty at its end.
    pub(crate) fn chunk(&mut self) -> Result<&[u8]> {
        if self.content == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && !self.fill()? {
            return Err(self.bad("it ends inside a file; it was cut short"));
        }
        let count = (self.end - self.start).min(usize::try_from(self.content).unwrap_or(usize::MAX));
        let from = self.start;
        self.start += count;
        self.content -= count as u64;
        Ok(&self.buffer[from..from + count])
    }

    /// Reads to the end of the stream and answers digest and size of all of it.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64)> {
        self.start = self.end;
        while self.fill()? {
            self.start = self.end;
        }
        Ok((self.hasher.finish(), self.total))
    }
}

fn convert(
    entry: &tar_core::parse::ParsedEntry<'_>,
    sparse: Option<(Vec<(u64, u64)>, u64)>,
) -> std::result::Result<TarEntry, String> {
    let id = |value: u64, what: &str| {
        u32::try_from(value).ok().filter(|v| *v != u32::MAX).ok_or_else(|| {
            format!("entry `{}` has {what} {value}, more than a Linux id can be", owned(&entry.path).display())
        })
    };
    for extension in entry.pax.iter().flat_map(|pax| PaxExtensions::new(pax)) {
        let extension = extension.map_err(|e| e.to_string())?;
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        let number = matches!(key, b"size" | b"uid" | b"gid");
        if number && (value.is_empty() || !value.iter().all(u8::is_ascii_digit)) {
            return Err(format!("extension `{}` is not a number", String::from_utf8_lossy(key)));
        }
    }
    let link = || entry.link_target.as_ref().map(|l| l.to_vec()).unwrap_or_default();
    let rdev = (entry.dev_major.unwrap_or(0), entry.dev_minor.unwrap_or(0));
    let what = match entry.entry_type {
        EntryType::Regular | EntryType::Continuous if entry.path.ends_with(b"/") => What::Node(Kind::Dir, (0, 0)),
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => What::Node(Kind::File, (0, 0)),
        EntryType::Directory => What::Node(Kind::Dir, (0, 0)),
        EntryType::Symlink => What::Symlink(link()),
        EntryType::Link => What::HardLink(link()),
        EntryType::Char => What::Node(Kind::CharDevice, rdev),
        EntryType::Block => What::Node(Kind::BlockDevice, rdev),
        EntryType::Fifo => What::Node(Kind::Fifo, (0, 0)),
        _ => What::Skip,
    };
    // PAX times have fractions, and may lie before 1970.
    let mtime = entry
        .pax
        .and_then(|pax| {
            PaxExtensions::new(pax).filter_map(std::result::Result::ok).filter(|e| e.key_bytes() == b"mtime").last()
        })
        .and_then(|e| pax_time(e.value_bytes()))
        .unwrap_or_else(|| i64::try_from(entry.mtime).unwrap_or(0).saturating_mul(1_000_000_000));
    Ok(TarEntry {
        path: entry.path.to_vec(),
        what,
        mode: entry.mode & 0o7777,
        uid: id(entry.uid, "user id")?,
        gid: id(entry.gid, "group id")?,
        mtime,
        xattrs: entry.xattrs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect(),
        size: entry.size,
        sparse,
    })
}

/// `1700000000.123456789`, possibly negative, as nanoseconds.
fn pax_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    let nanos = if whole.starts_with('-') { -nanos } else { nanos };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}
