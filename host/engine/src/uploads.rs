//! `Upload`: a file that the client sends along with its request, as the archive of `rhost build - < ctx.tar`. Its bytes lie in the store for as long
//! as somebody holds the handle; after a crash they are swept.
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use rhost_llb::{Digest, Hasher};
use rhost_store::{BuildFiles, Store};

/// The host in the URL of an upload: BuildKit's.
pub const HOST: &str = "buildkit-session";

/// A file of the client's. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upload {
    held: Arc<BuildFiles>,
    digest: Digest,
}

impl Upload {
    /// Reads all of `reader` into `store`.
    ///
    /// # Errors
    /// The reader's, the disk's.
    pub(crate) fn receive(store: &Store, reader: &mut dyn Read) -> rhost_store::Result<Self> {
        let held = store.build_files()?;
        let path = held.path().join("upload");
        let failed = |action, source| rhost_store::Error::Io { action, path: path.clone(), source };
        let mut file = File::create(&path).map_err(|error| failed("create", error))?;
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 256 << 10]);
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read stdin into", error)),
            };
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(|error| failed("write", error))?;
        }
        Ok(Self { held: Arc::new(held), digest: hasher.finish() })
    }

    /// Of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it is called in a URL: the same bytes have the same name, so that a build of the same archive is the same build.
    pub fn name(&self) -> String {
        self.digest.hex()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{HOST}/{}", self.name())
    }

    /// A directory that holds the file alone, under `name`, and belongs to this upload. Nothing is copied.
    pub(crate) fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let directory = self.held.path().join(format!("as-{}", Digest::of(name).hex()));
        std::fs::create_dir_all(&directory)?;
        match std::fs::hard_link(self.held.path().join("upload"), directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(directory),
        }
    }
}
