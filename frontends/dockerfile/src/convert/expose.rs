//! Ports of EXPOSE: `[[address:]host-port:]port[-last][/proto]`, of which an image keeps only `port/proto`.

/// A port that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("EXPOSE {text}: {reason}")]
pub struct PortError {
    text: String,
    reason: &'static str,
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |s: &str| s.strip_prefix('+').unwrap_or(s).parse::<u16>().ok();
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
        None => number(text).map(|n| (n, n)),
    }
}

/// What one word says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The ports that it opens, as `port/proto`.
    pub ports: Vec<String>,
    /// The protocol was not written in small letters.
    pub capital_protocol: bool,
    /// It names an address or a port of the host, which mean nothing here.
    pub mapping: bool,
}

/// Reads one word.
///
/// # Errors
/// When the word cannot be read.
pub fn parse(text: &str) -> Result<Exposed, PortError> {
    let fail = |reason| PortError { text: text.to_owned(), reason };
    let mut parts: Vec<&str> = text.split(':').collect();
    let container = parts.pop().unwrap_or_default();
    let host_port = parts.pop().unwrap_or_default();
    let address = parts.join(":");
    let (port, proto) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(fail("there is no port"));
    }
    let capital_protocol = proto != proto.to_lowercase();
    let proto = match proto.to_lowercase() {
        p if p.is_empty() => "tcp".to_owned(),
        p if matches!(p.as_str(), "tcp" | "udp" | "sctp") => p,
        _ => return Err(fail("the protocol is none of tcp, udp, sctp")),
    };
    let bare = address.strip_prefix('[').map_or(address.as_str(), |a| a.strip_suffix(']').unwrap_or(a));
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(fail("the address is no IP address"));
    }
    let (first, last) = range(port).ok_or_else(|| fail("the port is no number or range from 0 to 65535"))?;
    if !host_port.is_empty() {
        let (a, b) = range(host_port).ok_or_else(|| fail("the host's port is no number or range from 0 to 65535"))?;
        if b - a != last - first && first != last {
            return Err(fail("the ranges differ in length"));
        }
    }
    let mapping = !address.is_empty() || !host_port.is_empty();
    Ok(Exposed { ports: (first..=last).map(|p| format!("{p}/{proto}")).collect(), capital_protocol, mapping })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, wanted) in [
            ("80", vec!["80/tcp"]),
            ("8000-8002/UDP", vec!["8000/udp", "8001/udp", "8002/udp"]),
            ("127.0.0.1:1:80", vec!["80/tcp"]),
            ("[::1]:1:80", vec!["80/tcp"]),
            ("1:80/sctp", vec!["80/sctp"]),
        ] {
            assert_eq!(parse(text).unwrap().ports, wanted, "{text}");
        }
        for text in ["", "x", "80/icmp", "2-1", "99999", "x:1:80", "/tcp", "1-2:80-82"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
