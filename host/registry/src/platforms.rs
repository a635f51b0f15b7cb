//! Which entry of an index runs on a platform, and which runs best.
//!
//! The order is containerd's for "this platform or what it can run" (facts only): a variant runs lower variants; amd64
//! runs 386; arm64 runs arm.
use rhost_llb::Platform;

use crate::Descriptor;

/// Platforms that `wanted` can run, best first, beginning with itself.
pub fn compatible(wanted: &Platform) -> Vec<Platform> {
    let wanted = wanted.clone().normalized();
    let with = |architecture: &str, variant: &str| Platform::new(&wanted.os, architecture, variant);
    let mut list = vec![wanted.clone()];
    let number = |v: &str| v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok()).filter(|n| *n < 100);
    match wanted.architecture.as_str() {
        "amd64" => {
            let top = number(&wanted.variant).unwrap_or(1);
            list.extend((1..top).rev().map(|v| with("amd64", &format!("v{v}"))));
            list.push(with("386", ""));
        }
        "arm" => {
            let top = number(&wanted.variant).unwrap_or(7);
            list.extend((5..top).rev().map(|v| with("arm", &format!("v{v}"))));
        }
        "arm64" => {
            let minor = |v: &str, major: &str| match v.strip_prefix(major)? {
                "" => Some(0),
                rest => rest.strip_prefix('.')?.parse::<u32>().ok().filter(|n| *n < 100),
            };
            // Armv9.N has all of Armv8.(N+5).
            let below_v8 = match (minor(&wanted.variant, "v9"), minor(&wanted.variant, "v8")) {
                (Some(n), _) => {
                    list.extend((0..n).rev().map(|m| with("arm64", &dotted("v9", m))));
                    Some(n + 6)
                }
                (None, Some(n)) => Some(n),
                (None, None) => None,
            };
            list.extend((0..below_v8.unwrap_or(0)).rev().map(|m| with("arm64", &dotted("v8", m))));
            list.extend((5..=8).rev().map(|v| with("arm", &format!("v{v}"))));
        }
        _ => {}
    }
    list
}

fn dotted(major: &str, minor: u32) -> String {
    match minor {
        0 => major.to_owned(),
        minor => format!("{major}.{minor}"),
    }
}

/// The entries of an index that run on `wanted`, as positions, best first and in index order among equals. Entries
/// without a platform are not among them.
pub fn choose(entries: &[Descriptor], wanted: &Platform) -> Vec<usize> {
    let order = compatible(wanted);
    let mut ranked: Vec<(usize, usize)> = (entries.iter().enumerate())
        .filter_map(|(position, entry)| {
            let platform = entry.platform.clone()?.normalized();
            let same = |p: &Platform| {
                p.os == platform.os && p.architecture == platform.architecture && p.variant == platform.variant
            };
            Some((order.iter().position(same)?, position))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, position)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, offered: &[&str], expect: &[&str]) {
        let entries: Vec<Descriptor> = (offered.iter())
            .map(|text| {
                let mut parts = text.split('/').map(str::to_owned);
                let mut next = || parts.next().unwrap_or_default();
                let (os, architecture, variant) = (next(), next(), next());
                let platform = (os != "-").then(|| Platform { os, architecture, variant, ..Platform::default() });
                Descriptor { platform, ..Descriptor::of("m", text.as_bytes()) }
            })
            .collect();
        let found: Vec<&str> = choose(&entries, &wanted.parse().unwrap()).into_iter().map(|i| offered[i]).collect();
        assert_eq!(found, expect, "{wanted}");
    }

    #[test]
    fn exact_first() {
        check("linux/amd64", &["linux/arm64", "linux/amd64", "windows/amd64"], &["linux/amd64"]);
        check("linux/arm64", &["linux/amd64", "linux/arm64/v8"], &["linux/arm64/v8"]);
        check("linux/arm64/v8", &["linux/arm64"], &["linux/arm64"]);
    }

    #[test]
    fn lower_variants_serve() {
        check("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], &["linux/arm/v6", "linux/arm/v5"]);
        check("linux/arm/v6", &["linux/arm/v7", "linux/arm"], &[]);
        check(
            "linux/amd64/v3",
            &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"],
            &["linux/amd64/v2", "linux/amd64"],
        );
        check("linux/amd64", &["linux/amd64/v2", "linux/386"], &["linux/386"]);
        check("linux/arm64", &["linux/arm/v7", "linux/arm/v5"], &["linux/arm/v7", "linux/arm/v5"]);
        check("linux/arm64/v9", &["linux/arm64/v8", "linux/arm64/v8.5"], &["linux/arm64/v8.5", "linux/arm64/v8"]);
    }

    #[test]
    fn others_do_not() {
        check("linux/riscv64", &["linux/amd64", "unknown/unknown", "-"], &[]);
        check("linux/s390x", &["linux/s390x", "linux/s390x"], &["linux/s390x", "linux/s390x"]);
    }
}
