//! `--annotation`, `--attest`, `--provenance`, `--sbom`: flags that stand for options of every output, read as buildx reads them.
use rhost_engine::{BuildError, Kind};

fn wrong(message: String) -> BuildError {
    BuildError::new(Kind::Request, message)
}

/// `outputs` with the annotations of `flags` as options. Without an output the default one, `type=image`, gets them; outputs of plain files
/// have no place for them.
///
/// # Errors
/// A flag that is no annotation.
pub fn annotated(mut outputs: Vec<String>, flags: &[String]) -> Result<Vec<String>, BuildError> {
    let mut options = String::new();
    for text in flags {
        for (place, key, value) in annotation(text)? {
            let option = format!("annotation{place}.{key}={value}");
            // One field of comma-separated values.
            options += &format!(",\"{}\"", option.replace('"', "\"\""));
        }
    }
    if options.is_empty() {
        return Ok(outputs);
    }
    if outputs.is_empty() {
        outputs.push("type=image".to_owned());
    }
    for output in &mut outputs {
        if has_manifest(output) {
            output.push_str(&options);
        }
    }
    Ok(outputs)
}

/// Whether an output makes an image: `type=local`, `type=tar` and the short forms for them do not.
fn has_manifest(output: &str) -> bool {
    output
        .split(',')
        .find_map(|field| field.trim().strip_prefix("type="))
        .is_some_and(|kind| !matches!(kind, "local" | "tar"))
}

/// `[TYPE[PLATFORM][,TYPE[PLATFORM]…]:]KEY=VALUE`, as what follows `annotation` in an output's options, key and value.
fn annotation(text: &str) -> Result<Vec<(String, &str, &str)>, BuildError> {
    let refuse = |reason: &str| {
        wrong(format!("--annotation {text}: {reason}"))
            .hint("wanted KEY=VALUE, or `index:KEY=VALUE`; there are manifest, index, manifest-descriptor and index-descriptor")
    };
    let (key, value) = text.split_once('=').ok_or_else(|| refuse("it has no `=`"))?;
    let (places, key) = match key.split_once(':') {
        None => (vec![String::new()], key),
        Some((places, key)) => {
            let place = |place: &str| {
                let (kind, platform) = place.split_once('[').map_or((place, ""), |(kind, rest)| (kind, rest));
                let known = ["manifest", "index", "manifest-descriptor", "index-descriptor"].contains(&kind);
                let closed = platform.is_empty() || platform.ends_with(']');
                (known && closed)
                    .then(|| format!("-{place}"))
                    .ok_or_else(|| refuse(&format!("`{place}` is no place for it")))
            };
            (places.split(',').map(place).collect::<Result<Vec<_>, _>>()?, key)
        }
    };
    if key.is_empty() {
        return Err(refuse("it has no key"));
    }
    Ok(places.into_iter().map(|place| (place, key, value)).collect())
}

/// Caches are neither exported nor imported yet.
///
/// # Errors
/// One that is wanted.
pub fn refuse_caches(from: &[String], to: &[String]) -> Result<(), BuildError> {
    let (flag, spec) = match (from, to) {
        ([spec, ..], _) => ("--cache-from", spec),
        ([], [spec, ..]) => ("--cache-to", spec),
        ([], []) => return Ok(()),
    };
    Err(wrong(format!("{flag} {spec}: caches are not exported or imported yet")).hint(
        "leave it out: what rhost has built stays in its store (--root DIR), which a CI runner can keep between builds",
    ))
}

/// Takes attestations that are switched off; rhost makes none.
///
/// # Errors
/// One that is wanted.
pub fn refuse_attestations(attest: &[String], provenance: Option<&str>, sbom: Option<&str>) -> Result<(), BuildError> {
    let off = |value: &str| matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False");
    let disabled = |text: &str| {
        text.split(',').any(|field| {
            field == "disabled" || matches!(field.split_once('='), Some(("disabled", value)) if !off(value))
        })
    };
    let refuse = |flag: String| {
        wrong(format!("{flag}: attestations are not supported yet"))
            .hint("leave it out, or switch it off: --provenance=false, --sbom=false")
    };
    for (flag, value) in [("--provenance", provenance), ("--sbom", sbom)] {
        if let Some(value) = value.filter(|value| !value.is_empty() && !off(value) && !disabled(value)) {
            return Err(refuse(format!("{flag}={value}")));
        }
    }
    match attest.iter().find(|text| !disabled(text)) {
        Some(text) => Err(refuse(format!("--attest {text}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_go_to_every_image() {
        let flags = ["a.b=c,d".to_owned(), "index,manifest-descriptor[linux/arm64]:k=\"v\"".to_owned()];
        let outputs = ["type=oci,dest=x".to_owned(), "out".to_owned(), "dest=y,type=tar".to_owned()].to_vec();
        let options = "\"annotation.a.b=c,d\",\"annotation-index.k=\"\"v\"\"\",\"annotation-manifest-descriptor[linux/arm64].k=\"\"v\"\"\"";
        let found = annotated(outputs, &flags).expect("fine");
        assert_eq!(found, [format!("type=oci,dest=x,{options}"), "out".into(), "dest=y,type=tar".into()]);
        assert_eq!(annotated(Vec::new(), &flags).expect("fine"), [format!("type=image,{options}")]);
        assert_eq!(annotated(Vec::new(), &[]).expect("fine"), Vec::<String>::new());
        for bad in ["a", "=b", "layer:a=b", "index[linux/arm64:a=b", ":a=b"] {
            assert!(annotated(Vec::new(), &[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn caches_are_refused_by_name() {
        let spec = ["type=gha".to_owned()];
        assert!(refuse_caches(&[], &[]).is_ok());
        assert!(refuse_caches(&[], &spec).expect_err("wanted").message.starts_with("--cache-to type=gha: "));
        assert!(refuse_caches(&spec, &spec).expect_err("wanted").message.starts_with("--cache-from type=gha: "));
    }

    #[test]
    fn only_attestations_that_are_off_are_taken() {
        let off = ["type=sbom,disabled=true".to_owned(), "type=provenance,disabled".to_owned()];
        assert!(refuse_attestations(&off, Some("false"), Some("0")).is_ok());
        assert!(refuse_attestations(&[], None, None).is_ok());
        for (attest, provenance, sbom) in [
            (Some("type=sbom"), None, None),
            (Some("type=sbom,disabled=false"), None, None),
            (None, Some("mode=max"), None),
            (None, None, Some("true")),
        ] {
            let attest: Vec<String> = attest.into_iter().map(str::to_owned).collect();
            let error = refuse_attestations(&attest, provenance, sbom).expect_err("wanted");
            assert!(error.message.contains("not supported yet"), "{error}");
        }
    }
}
