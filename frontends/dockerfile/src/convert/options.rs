//! The frontend options (spec B.4) as typed values. Malformed options are refused before anything is read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::convert::error::ConvertError;
use crate::convert::golang::parse_bool;
use crate::convert::graph::{Network, Platform, Proxy, Resources};
use crate::host::ResolveMode;

/// Everything that the client may choose.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the options of spec B.4")]
pub struct Options {
    raw: BTreeMap<String, String>,
    pub filename: String,
    pub target: String,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub platforms: Vec<Platform>,
    pub multi_platform: bool,
    pub resolve_mode: ResolveMode,
    pub network: Network,
    pub extra_hosts: Vec<(String, String)>,
    pub hostname: String,
    pub shm_size: i64,
    pub ulimits: Vec<(String, i64, i64)>,
    pub resources: Option<Resources>,
    pub cgroup_parent: String,
    pub cache_namespace: String,
    pub dockerfile_local: String,
    pub dockerfile_is_local: bool,
    no_cache: Option<Vec<String>>,
}

/// Fields of one line of comma-separated values; a field may stand in double quotes.
pub(crate) fn csv(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next()? {
                    (_, '"') if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                        field.push('"');
                    }
                    (i, '"') => break i + 1,
                    (_, c) => field.push(c),
                }
            };
            fields.push(field);
            rest = &quoted[end..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.is_empty().then_some(fields),
            }
        } else if let Some((field, next)) = rest.split_once(',') {
            fields.push(field.to_owned());
            rest = next;
        } else {
            fields.push(rest.to_owned());
            return Some(fields);
        }
    }
}

fn ulimit(text: &str) -> Result<(String, i64, i64), String> {
    const NAMES: &[&str] = &[
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`"))?;
    if !NAMES.contains(&name) {
        return Err(format!("`{name}` is no limit: there are {}", NAMES.join(", ")));
    }
    let number = |s: &str| s.parse::<i64>().map_err(|_| format!("`{s}` is no number"));
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("the soft limit of `{text}` is above the hard one"));
    }
    Ok((name.to_owned(), soft, hard))
}

fn positive<T: std::str::FromStr + PartialOrd + Default>(
    raw: &BTreeMap<String, String>,
    key: &str,
    also: impl Fn(&T) -> bool,
) -> Result<T, ConvertError> {
    match raw.get(key).map(String::as_str) {
        None | Some("") => Ok(T::default()),
        Some(text) => match text.parse::<T>() {
            Ok(n) if n > T::default() || also(&n) => Ok(n),
            _ => Err(ConvertError::option(key, format!("`{text}` is no number above 0"))),
        },
    }
}

fn cpuset(raw: &BTreeMap<String, String>, key: &str) -> Result<String, ConvertError> {
    let text = raw.get(key).cloned().unwrap_or_default();
    let number = |s: &str| s.parse::<u32>().ok();
    let good = |part: &str| match part.split_once('-') {
        Some((a, b)) => matches!((number(a), number(b)), (Some(a), Some(b)) if a <= b),
        None => number(part).is_some(),
    };
    if text.is_empty() || text.split(',').all(good) {
        Ok(text)
    } else {
        Err(ConvertError::option(key, format!("`{text}` is no list such as 0-3,6")))
    }
}

fn resources(raw: &BTreeMap<String, String>) -> Result<Option<Resources>, ConvertError> {
    let found = Resources {
        memory: positive(raw, "memory", |_| false)?,
        memory_swap: positive(raw, "memswap", |n: &i64| *n == -1)?,
        cpu_shares: positive(raw, "cpushares", |_| false)?,
        cpu_period: positive(raw, "cpuperiod", |_| false)?,
        cpu_quota: positive(raw, "cpuquota", |_| false)?,
        cpuset_cpus: cpuset(raw, "cpusetcpus")?,
        cpuset_mems: cpuset(raw, "cpusetmems")?,
    };
    Ok((found != Resources::default()).then_some(found))
}

fn extra_host(field: &str) -> Result<(String, String), String> {
    let field = field.to_lowercase();
    let (host, ip) = field.split_once('=').ok_or_else(|| format!("`{field}` has no `=`"))?;
    let ip: IpAddr = ip.parse().map_err(|_| format!("`{ip}` is no IP address"))?;
    Ok((host.to_owned(), ip.to_canonical().to_string()))
}

impl Options {
    /// Reads the options.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn parse(pairs: Vec<(String, String)>, host: &Platform) -> Result<Self, ConvertError> {
        let raw: BTreeMap<String, String> = pairs.into_iter().collect();
        let text = |key: &str| raw.get(key).map(String::as_str).unwrap_or_default();
        let list = |key: &str| {
            let value = text(key);
            if value.is_empty() {
                return Ok(Vec::new());
            }
            csv(value).ok_or_else(|| ConvertError::option(key, "a quote is not closed"))
        };
        let with_prefix = |prefix: &str| -> BTreeMap<String, String> {
            raw.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone()))).collect()
        };

        let platforms = text("platform")
            .split(',')
            .filter(|_| !text("platform").is_empty())
            .map(|p| {
                Platform::parse(p, host)
                    .map(|p| p.normalize())
                    .map_err(|e| ConvertError::option("platform", e.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let multi_key = match text("build-arg:BUILDKIT_MULTI_PLATFORM") {
            "" => "multi-platform",
            _ => "build-arg:BUILDKIT_MULTI_PLATFORM",
        };
        let multi_platform = match text(multi_key) {
            "" => platforms.len() > 1,
            value => match parse_bool(value) {
                None => return Err(ConvertError::option(multi_key, format!("`{value}` is neither true nor false"))),
                Some(false) if platforms.len() > 1 => {
                    return Err(ConvertError::option(multi_key, "several platforms were asked for"));
                }
                Some(value) => value,
            },
        };
        if !text("override-copy-image").is_empty() {
            return Err(ConvertError::option("override-copy-image", "was removed long ago"));
        }
        if parse_bool(text("build-arg:BUILDKIT_DISABLE_FILEOP")) == Some(true) {
            return Err(ConvertError::option("build-arg:BUILDKIT_DISABLE_FILEOP", "was removed long ago"));
        }
        let hostname = match text("build-arg:BUILDKIT_SANDBOX_HOSTNAME") {
            "" => text("hostname"),
            value => value,
        };
        Ok(Self {
            filename: raw.get("filename").cloned().unwrap_or_else(|| "Dockerfile".into()),
            target: text("target").to_owned(),
            build_args: with_prefix("build-arg:"),
            labels: with_prefix("label:"),
            multi_platform,
            platforms,
            resolve_mode: match text("image-resolve-mode") {
                "" | "default" => ResolveMode::Default,
                "pull" => ResolveMode::Pull,
                "local" => ResolveMode::Local,
                other => {
                    return Err(ConvertError::option(
                        "image-resolve-mode",
                        format!("`{other}` is none of default, pull, local"),
                    ));
                }
            },
            network: match text("force-network-mode") {
                "" | "sandbox" => Network::Sandbox,
                "host" => Network::Host,
                "none" => Network::None,
                other => {
                    return Err(ConvertError::option(
                        "force-network-mode",
                        format!("`{other}` is none of sandbox, host, none"),
                    ));
                }
            },
            extra_hosts: list("add-hosts")?
                .iter()
                .map(|f| extra_host(f).map_err(|e| ConvertError::option("add-hosts", e)))
                .collect::<Result<_, _>>()?,
            hostname: hostname.to_owned(),
            shm_size: match text("shm-size") {
                "" => 0,
                value => value
                    .parse()
                    .map_err(|_| ConvertError::option("shm-size", format!("`{value}` is no number of bytes")))?,
            },
            ulimits: list("ulimit")?
                .iter()
                .map(|f| ulimit(f).map_err(|e| ConvertError::option("ulimit", e)))
                .collect::<Result<_, _>>()?,
            resources: resources(&raw)?,
            cgroup_parent: text("cgroup-parent").to_owned(),
            cache_namespace: text("build-arg:BUILDKIT_CACHE_MOUNT_NS").to_owned(),
            dockerfile_local: raw.get("dockerfilekey").cloned().unwrap_or_else(|| "dockerfile".into()),
            dockerfile_is_local: raw.contains_key("dockerfilekey"),
            no_cache: raw
                .get("no-cache")
                .map(|v| if v.is_empty() { Vec::new() } else { v.split(',').map(str::to_owned).collect() }),
            raw,
        })
    }

    /// An option as it came.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.raw.get(key).map(String::as_str)
    }

    /// The session that lends the local source `name`.
    pub fn local_session(&self, name: &str) -> Option<&str> {
        self.raw(&format!("local-sessionid:{name}"))
    }

    /// Whether the cache is not to be used for a stage of this name (empty if it has none).
    pub fn ignores_cache(&self, stage: &str) -> bool {
        self.no_cache.as_ref().is_some_and(|list| list.is_empty() || list.iter().any(|n| n.eq_ignore_ascii_case(stage)))
    }

    /// Proxies among the build arguments; both spellings are known, and the later name wins.
    pub fn proxy(&self) -> Option<Proxy> {
        let mut proxy = Proxy::default();
        let mut found = false;
        for (key, value) in &self.build_args {
            let place = match key.to_lowercase().as_str() {
                "http_proxy" => &mut proxy.http,
                "https_proxy" => &mut proxy.https,
                "ftp_proxy" => &mut proxy.ftp,
                "no_proxy" => &mut proxy.no,
                "all_proxy" => &mut proxy.all,
                _ => continue,
            };
            place.clone_from(value);
            found = true;
        }
        found.then_some(proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, ConvertError> {
        let host = Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() };
        Options::parse(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), &host)
    }

    #[test]
    fn values() {
        let options = parse(&[
            ("platform", "linux/arm64,linux/amd64"),
            ("add-hosts", "A=1.2.3.4,b=::1"),
            ("ulimit", "nofile=1:2"),
            ("no-cache", "a,b"),
            ("build-arg:HTTP_PROXY", "p"),
            ("build-arg:http_proxy", "q"),
            ("memory", "12"),
        ])
        .unwrap();
        assert!(options.multi_platform && options.ignores_cache("A") && !options.ignores_cache(""));
        assert_eq!(options.extra_hosts, [("a".into(), "1.2.3.4".into()), ("b".into(), "::1".into())]);
        assert_eq!(options.ulimits, [("nofile".into(), 1, 2)]);
        assert_eq!(options.proxy().unwrap().http, "q");
        assert_eq!(options.resources.unwrap().memory, 12);
        assert!(parse(&[("no-cache", "")]).unwrap().ignores_cache("x"));
    }

    #[test]
    fn refusals() {
        for pair in [
            ("platform", "nonsense"),
            ("ulimit", "nofile=3:2"),
            ("add-hosts", "x"),
            ("shm-size", "big"),
            ("memory", "0"),
            ("cpusetcpus", "3-1"),
            ("force-network-mode", "bridge"),
            ("multi-platform", "maybe"),
            ("image-resolve-mode", "x"),
        ] {
            let error = parse(&[pair]).unwrap_err().to_string();
            assert!(error.contains(pair.0), "{error}");
        }
        assert_eq!(csv(r#"a,"b,""c",d"#).unwrap(), ["a", "b,\"c", "d"]);
        assert!(csv("\"a").is_none());
    }
}
