//! Framing of the ssh agent protocol (draft-ietf-sshm-ssh-agent): messages of `u32` length and bytes, strings inside likewise.
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub const FAILURE: u8 = 5;
pub const REQUEST_IDENTITIES: u8 = 11;
pub const IDENTITIES_ANSWER: u8 = 12;
pub const SIGN_REQUEST: u8 = 13;
pub const SIGN_RESPONSE: u8 = 14;

/// Largest message, as OpenSSH's agent has it.
const LARGEST: usize = 256 << 10;

/// One message; `None` at the end.
pub async fn read(from: &mut UnixStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > LARGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message.
pub async fn write(to: &mut UnixStream, message: &[u8]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(message.len() + 4);
    put(&mut bytes, message);
    to.write_all(&bytes).await
}

/// Appends a string.
pub fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// Appends a number that is not negative, as an mpint: no leading zeros but the one that keeps it positive.
pub fn put_number(out: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let mut bytes = Vec::with_capacity(number.len() + 1);
    if number.get(start).is_some_and(|byte| byte & 0x80 != 0) {
        bytes.push(0);
    }
    bytes.extend(&number[start..]);
    put(out, &bytes);
}

/// Takes a string off the front.
pub fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(4)?;
    let (found, rest) = rest.split_at_checked(u32::from_be_bytes(length.try_into().ok()?) as usize)?;
    *bytes = rest;
    Some(found)
}
