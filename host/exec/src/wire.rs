//! What parent and supervisor say to each other over one socket: a spec one way, reports the other.
//!
//! The spec is one byte that carries descriptors to hold, `u32` length and JSON, then each secret as `u32` length and bytes: secrets
//! stay out of anything that could be printed. Reports are one JSON document per line; the supervisor's end of file is the end of
//! the step. Descriptors travel as SCM_RIGHTS beside the bytes.
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::error::ExecError;
use crate::lend::SecretBytes;
use crate::step::{MountSource, Step};

/// From the supervisor to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The supervisor is there; its pidfd comes with this line.
    Begun,
    /// Something was asked for and softly not had.
    Warning(String),
    /// Raw `wait` status of pid 1.
    Ended(i32),
    /// The step could not be run.
    Failed(ExecError),
    /// The listening sockets of the mounts of these numbers come with this line, in this order.
    Sockets(Vec<usize>),
}

/// From the container's first process to the supervisor, until it becomes the step's program.
#[derive(Debug, Serialize, Deserialize)]
pub enum Progress {
    /// As `Report::Warning`.
    Warning(String),
    /// Something was made in the root for a mount; to be removed afterwards.
    Stub(crate::stubs::Stub),
    /// The step cannot run.
    Failed(ExecError),
}

/// The bytes of a spec.
pub fn encode(step: &Step) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(step)?;
    let mut out = Vec::with_capacity(json.len() + 64);
    let mut part = |bytes: &[u8]| {
        let len =
            u32::try_from(bytes.len()).map_err(|_| Error::new(ErrorKind::InvalidInput, "the step is too large"))?;
        out.extend(len.to_le_bytes());
        out.extend(bytes);
        Ok::<_, Error>(())
    };
    part(&json)?;
    for mount in &step.mounts {
        if let MountSource::Secret { bytes, .. } = &mount.source {
            part(bytes.expose())?;
        }
    }
    part(&(step.secret_env.len() as u32).to_le_bytes())?;
    for (name, value) in &step.secret_env {
        part(name.as_bytes())?;
        part(value.expose())?;
    }
    Ok(out)
}

/// Reads what `encode` wrote.
pub fn decode(from: &mut impl Read) -> Result<Step> {
    fn part(from: &mut impl Read) -> Result<Vec<u8>> {
        let mut len = [0; 4];
        from.read_exact(&mut len)?;
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    let mut step: Step = serde_json::from_slice(&part(from)?)?;
    for mount in &mut step.mounts {
        if let MountSource::Secret { bytes, .. } = &mut mount.source {
            *bytes = SecretBytes::from(part(from)?);
        }
    }
    let count = <[u8; 4]>::try_from(part(from)?).map_or(0, u32::from_le_bytes);
    for _ in 0..count {
        let name = String::from_utf8(part(from)?).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
        step.secret_env.push((name, SecretBytes::from(part(from)?)));
    }
    Ok(step)
}

/// The most descriptors of one message; the kernel takes 253.
pub const MOST_DESCRIPTORS: usize = 128;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS));

/// Sends `bytes` with `descriptors` beside them. The bytes are few: they go in one piece.
pub fn send(to: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::new(ErrorKind::InvalidInput, "too many descriptors"));
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// Reads into `bytes`; descriptors that came beside them are added to `descriptors`, close-on-exec.
pub fn receive(from: impl AsFd, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = part {
            descriptors.extend(found);
        }
    }
    Ok(message.bytes)
}

/// One report as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
