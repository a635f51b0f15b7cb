//! A tar reader that hides nothing: every field of every header as it stands, so that two writers can be compared.
use std::collections::BTreeMap;

use rhost_llb::Digest;

/// One entry with all its headers.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: char,
    pub mode: u64,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    /// As text: PAX has fractions.
    pub mtime: String,
    pub link: Vec<u8>,
    pub names: (Vec<u8>, Vec<u8>),
    pub device: (u64, u64),
    /// PAX records that are none of the above.
    pub others: BTreeMap<String, Vec<u8>>,
    pub content: Digest,
    /// Where the bytes are.
    pub range: std::ops::Range<usize>,
    /// The headers, times and checksums blanked.
    pub raw: Vec<u8>,
}

/// All entries of `tar`.
pub fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut at = 0;
    let (mut pax, mut raw) = (BTreeMap::<String, Vec<u8>>::new(), Vec::new());
    let (mut long_name, mut long_link) = (None, None);
    while at + 512 <= tar.len() {
        let header = &tar[at..at + 512];
        at += 512;
        if header.iter().all(|b| *b == 0) {
            break;
        }
        let size = usize::try_from(number(&header[124..136])).expect("a size");
        let kind = header[156] as char;
        let mut blank = header.to_vec();
        blank[136..156].fill(0);
        raw.extend_from_slice(&blank);
        let whole = |at: usize| tar[at..at + size].to_vec();
        match kind {
            'x' | 'g' => {
                let content = whole(at);
                pax.extend(records(&content).into_iter().filter(|_| kind == 'x'));
                raw.extend(content.iter().map(|b| if b.is_ascii_digit() { b'0' } else { *b }));
                at += size.next_multiple_of(512);
                continue;
            }
            'L' => long_name = Some(cut(&whole(at))),
            'K' => long_link = Some(cut(&whole(at))),
            _ => {}
        }
        if matches!(kind, 'L' | 'K') {
            at += size.next_multiple_of(512);
            continue;
        }
        let mut name = cut(&header[..100]);
        let prefix = cut(&header[345..500]);
        if header[257..263] == *b"ustar\0" && !prefix.is_empty() {
            name = [prefix.as_slice(), b"/", &name].concat();
        }
        let text = |pax: &mut BTreeMap<String, Vec<u8>>, key: &str| pax.remove(key);
        let decimal = |value: Vec<u8>| String::from_utf8(value).expect("text").parse::<u64>().expect("a number");
        let size = text(&mut pax, "size").map_or(size as u64, decimal);
        let length = usize::try_from(size).expect("a size");
        let has_bytes = !matches!(kind, '1'..='6');
        let range = at..if has_bytes { at + length } else { at };
        found.push(Entry {
            path: text(&mut pax, "path").or(long_name.take()).unwrap_or(name),
            kind,
            mode: number(&header[100..108]),
            uid: text(&mut pax, "uid").map_or_else(|| number(&header[108..116]), decimal),
            gid: text(&mut pax, "gid").map_or_else(|| number(&header[116..124]), decimal),
            size,
            mtime: text(&mut pax, "mtime")
                .map_or_else(|| number(&header[136..148]).to_string(), |v| String::from_utf8(v).expect("text")),
            link: text(&mut pax, "linkpath").or(long_link.take()).unwrap_or_else(|| cut(&header[157..257])),
            names: (cut(&header[265..297]), cut(&header[297..329])),
            device: (number(&header[329..337]), number(&header[337..345])),
            others: std::mem::take(&mut pax),
            content: Digest::of(&tar[range.clone()]),
            range,
            raw: std::mem::take(&mut raw),
        });
        if has_bytes {
            at += length.next_multiple_of(512);
        }
    }
    found
}

fn cut(field: &[u8]) -> Vec<u8> {
    field.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

fn number(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[1..].iter().fold(u64::from(field[0] & 0x7f), |sum, b| sum << 8 | u64::from(*b));
    }
    let text: String = field.iter().map(|b| *b as char).filter(char::is_ascii_digit).collect();
    u64::from_str_radix(&text, 8).unwrap_or(0)
}

fn records(mut text: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    while let Some(space) = text.iter().position(|b| *b == b' ') {
        let length: usize = std::str::from_utf8(&text[..space]).expect("text").parse().expect("a length");
        let record = &text[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').expect("a value");
        found.insert(String::from_utf8_lossy(&record[..equals]).into_owned(), record[equals + 1..].to_vec());
        text = &text[length..];
    }
    found
}
