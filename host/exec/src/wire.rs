//! What parent and supervisor say to each other over one socket: a spec one way, reports the other.
//!
//! The spec is `u32` length and JSON, then each secret as `u32` length and bytes: secrets stay out of anything that could be
//! printed. Reports are one JSON document per line; the supervisor's end of file is the end of the step.
use std::io::{Error, ErrorKind, Read, Result};

use serde::{Deserialize, Serialize};

use crate::error::ExecError;
use crate::step::{MountSource, Step};

/// From the supervisor to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Something was asked for and softly not had.
    Warning(String),
    /// Raw `wait` status of pid 1.
    Ended(i32),
    /// The step could not be run.
    Failed(ExecError),
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
            part(bytes)?;
        }
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
            *bytes = part(from)?;
        }
    }
    Ok(step)
}

/// One report as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
