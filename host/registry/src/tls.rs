//! Certificates of a registry's configuration, read from their files.
use std::path::Path;

use reqwest::{Certificate, Identity};

use crate::HostConfig;

pub(crate) struct Tls {
    pub authorities: Vec<Certificate>,
    pub identity: Option<Identity>,
}

/// Reads what `settings` names. The text of an error says which file and why.
pub(crate) fn load(settings: &HostConfig) -> Result<Tls, String> {
    let mut tls = Tls { authorities: Vec::new(), identity: None };
    for path in &settings.ca {
        tls.authorities.extend(authorities(path)?);
    }
    let mut pairs: Vec<_> = settings.keypair.iter().map(|pair| (pair.cert.clone(), pair.key.clone())).collect();
    for directory in &settings.tlsconfigdir {
        let wrong = |e: std::io::Error| format!("`{}`: {e}", directory.display());
        let entries = std::fs::read_dir(directory).map_err(wrong)?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        paths.sort();
        for path in paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => tls.authorities.extend(authorities(&path)?),
                Some("cert") => pairs.push((path.clone(), path.with_extension("key"))),
                _ => {}
            }
        }
    }
    if let Some((cert, key)) = pairs.first() {
        let mut pem = read(cert)?;
        pem.push(b'\n');
        pem.extend(read(key)?);
        let identity = Identity::from_pem(&pem)
            .map_err(|_| format!("`{}` and `{}` are no PEM certificate and key", cert.display(), key.display()))?;
        tls.identity = Some(identity);
    }
    Ok(tls)
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(&read(path)?) {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(format!("`{}` has no PEM certificate", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("`{}`: {e}", path.display()))
}
