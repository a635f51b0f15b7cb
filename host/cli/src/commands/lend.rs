//! `--secret`, `--ssh`, `--allow`: what the user lends to a build. The environment is read here and nowhere below.
use std::collections::btree_map::Entry;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rhost_engine::{BuildError, Entitlement, Kind, LARGEST_SECRET, Lent, SecretBytes, SecretSource, SshAgent};

/// What the flags lend. Files of secrets are looked at, not read; keys are read.
///
/// # Errors
/// A flag that is wrong, by name; something that is not there.
pub fn lent(secrets: &[String], agents: &[String], allowed: &[String], network: &str) -> Result<Lent, BuildError> {
    let mut lent = Lent::default();
    for text in secrets {
        let (id, source) = secret(text)?;
        match lent.secrets.entry(id) {
            Entry::Occupied(known) => return Err(twice("--secret", known.key())),
            Entry::Vacant(place) => drop(place.insert(source)),
        }
    }
    for text in agents {
        let (id, agent) = agent(text)?;
        match lent.agents.entry(id) {
            Entry::Occupied(known) => return Err(twice("--ssh", known.key())),
            Entry::Vacant(place) => drop(place.insert(agent)),
        }
    }
    for text in allowed.iter().flat_map(|text| text.split(',')) {
        let entitlement: Entitlement = text.parse().map_err(|error| wrong(format!("--allow {text}: {error}")))?;
        lent.entitlements.0.insert(entitlement);
    }
    if network == "host" {
        // As with buildx: whoever types it has said so.
        lent.entitlements.0.insert(Entitlement::NetworkHost);
    }
    if !lent.secrets.is_empty() || !lent.agents.is_empty() {
        no_core_dumps();
    }
    Ok(lent)
}

fn wrong(message: impl std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Request, message)
}

fn twice(flag: &str, id: &str) -> BuildError {
    wrong(format!("{flag}: the id `{id}` is given twice")).hint("give each its own id")
}

/// This process holds secrets from here on: a crash must not write them to a disk. Steps inherit it.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Core).maximum;
    // Lowering is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}

/// `id=ID[,src=FILE|,env=VARIABLE][,type=file|env]`, as buildx reads it.
fn secret(text: &str) -> Result<(String, SecretSource), BuildError> {
    // The value is a name, never the secret itself, so it may be told.
    let refuse = |reason: String| {
        wrong(format!("--secret {text}: {reason}")).hint("wanted id=ID,src=FILE or id=ID,env=VARIABLE")
    };
    let (mut id, mut file, mut variable, mut kind) = (String::new(), String::new(), String::new(), String::new());
    for field in fields(text).ok_or_else(|| refuse("a quote is not closed".into()))? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(refuse(format!("`{field}` is no KEY=VALUE")));
        };
        let key = key.trim().to_ascii_lowercase();
        let place = match key.as_str() {
            "id" => &mut id,
            "src" | "source" => &mut file,
            "env" => &mut variable,
            "type" if matches!(value, "file" | "env") => &mut kind,
            "type" => return Err(refuse(format!("`{value}` is no type; there are file and env"))),
            _ => return Err(refuse(format!("`{key}` is no key; there are id, src (source), env and type"))),
        };
        if !place.is_empty() {
            return Err(refuse(format!("`{key}` is given twice")));
        }
        *place = value.to_owned();
    }
    if id.is_empty() {
        return Err(refuse("it has no id".into()));
    }
    if kind == "env" && variable.is_empty() {
        variable = std::mem::take(&mut file);
    }
    if !variable.is_empty() && !file.is_empty() {
        return Err(refuse("it names both a file and a variable".into()));
    }
    if variable.is_empty() && file.is_empty() {
        // The id alone: a variable of that name, else a file.
        let is_variable = kind != "file" && std::env::var_os(&id).is_some();
        if is_variable || kind == "env" { variable.clone_from(&id) } else { file.clone_from(&id) }
    }
    if !variable.is_empty() {
        let value = std::env::var_os(&variable).unwrap_or_else(|| {
            eprintln!("WARNING: --secret {text}: the variable {variable} is not set; the secret is empty");
            Default::default()
        });
        return Ok((id, SecretSource::Value(SecretBytes::from(value.into_vec()))));
    }
    let path = std::path::absolute(&file).map_err(wrong)?;
    match std::fs::metadata(&path) {
        Err(error) => Err(refuse(format!("cannot read `{}`: {error}", path.display()))),
        Ok(found) if found.is_dir() => Err(refuse(format!("`{}` is a directory", path.display()))),
        Ok(found) if found.len() > LARGEST_SECRET => {
            Err(refuse(format!("`{}` is larger than {LARGEST_SECRET} bytes", path.display())))
        }
        Ok(_) => Ok((id, SecretSource::File(path))),
    }
}

/// `default|ID[=SOCKET|KEY[,KEY]]`.
fn agent(text: &str) -> Result<(String, SshAgent), BuildError> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let mut paths: Vec<PathBuf> = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).ok_or_else(|| {
            wrong(format!("--ssh {text}: SSH_AUTH_SOCK is not set"))
                .hint(format!("start an agent (`eval $(ssh-agent)`, `ssh-add`), or name a key: `--ssh {id}=KEYFILE`"))
        })?;
        paths.push(socket.into());
    }
    let agent = SshAgent::open(&paths).map_err(|error| wrong(format!("--ssh {text}: {error}")))?;
    Ok((if id.is_empty() { "default".into() } else { id.to_owned() }, agent))
}

/// Fields of one line of comma-separated values; a field may stand in double quotes. `None` when a quote is not closed.
fn fields(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use rhost_engine::Entitlements;

    use super::*;

    #[test]
    fn secrets_are_read_as_buildx_reads_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a,b");
        std::fs::write(&file, "x").expect("written");
        let path = file.display();
        for text in [format!("id=a,\"src={path}\""), format!("\"source={path}\",ID=a,type=file")] {
            assert!(
                matches!(secret(&text), Ok((id, SecretSource::File(found))) if id == "a" && found == file),
                "{text}"
            );
        }
        for text in ["id=a,env=PATH", "type=env,id=a,src=PATH", "type=env,id=PATH", "id=PATH"] {
            assert!(
                matches!(secret(text), Ok((_, SecretSource::Value(bytes))) if !bytes.expose().is_empty()),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_secrets_are_refused_with_a_way_out() {
        for (text, reason) in [
            ("src=/etc/passwd", "no id"),
            ("id=a,file=/etc/passwd", "`file` is no key"),
            ("id=a,type=vault", "`vault` is no type"),
            ("id=a,src=/nowhere/at/all", "cannot read"),
            ("id=a,src=/", "is a directory"),
            ("id=a,id=b,src=/etc/passwd", "twice"),
            ("id=a,src=/etc/passwd,env=PATH", "both"),
            ("id=a,\"src=/etc", "quote"),
            ("a", "no KEY=VALUE"),
        ] {
            let error = secret(text).expect_err(text);
            assert!(error.message.contains(reason) && error.hints[0].contains("src=FILE"), "{text}: {error}");
        }
        let two = ["id=a,env=PATH".to_owned(), "id=a,env=HOME".to_owned()];
        let error = lent(&two, &[], &[], "default").expect_err("twice");
        assert!(error.message.contains("`a` is given twice"), "{error}");
    }

    #[test]
    fn permissions() {
        let allowed = |text: &str, network| lent(&[], &[], &[text.to_owned()], network).map(|lent| lent.entitlements);
        let both = [Entitlement::NetworkHost, Entitlement::SecurityInsecure];
        assert_eq!(allowed("network.host,security.insecure", "default").expect("known"), Entitlements(both.into()));
        assert_eq!(allowed("security.insecure", "host").expect("known"), Entitlements(both.into()));
        let error = allowed("everything", "default").expect_err("unknown");
        assert!(error.message.contains("security.insecure"), "{error}");
    }
}
