//! Capabilities: what a definition asks of the one who solves it (spec appendix 2), as BuildKit's client records them.
//!
//! Two of its habits are kept because metadata is compared with it: file ops only ever ask for `file.base` (spec A.3), and the id of HTTP
//! owners is misspelt, in the id itself.
use std::collections::BTreeSet;

use crate::definition::OpMetadata;
use crate::exec_op::{ContentCache, ExecOp, MountType, NetMode, SecurityMode};
use crate::op::{Op, OpKind};
use crate::source_op::{SourceOp, SourceScheme, attr};

/// Asked for by steps with resource limits.
pub(crate) const EXEC_META_LINUX_RESOURCES: &str = "exec.meta.linux.resources";

/// Every capability id of LLB. A definition that asks for another one is refused.
pub const KNOWN: &[&str] = &[
    "source.image",
    "source.image.resolvemode",
    "source.image.layerlimit",
    "source.image.checksum",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.local.metadatatransfer",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.subdir",
    "source.git.checksum",
    "source.git.skipsubmodules",
    "source.git.signatureverify",
    "source.git.mtime",
    "source.git.fetchbycommit",
    "source.git.bundle",
    "source.git.checkoutbundle",
    "source.http",
    "source.http.auth",
    "source.http.checksum",
    "source.http.perm",
    "soruce.http.uidgid",
    "source.http.header",
    "source.http.signatureverify",
    "source.imageblob",
    "source.ocilayout",
    "source.buildop.llbfilename",
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.network.proxy",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.security.devices.v1",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.meta.cdi",
    "exec.meta.removemountstubs.recursive",
    EXEC_META_LINUX_RESOURCES,
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.mount.cache.content",
    "exec.cgroup",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.rm.wildcard",
    "file.copy.includeexcludepatterns",
    "file.copy.requiredpaths",
    "file.rm.nofollowsymlink",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.modestring",
    "file.symlink.create",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "meta.exportcache",
    "cache.gha",
    "cache.s3",
    "cache.azblob",
    "mergeop",
    "diffop",
    "passthroughop",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
    "exporter.session",
    "source.policy",
    "source.policy.session",
    "gc.freespacefilter",
    "history.filter",
];

/// Those that rhost does not have yet. A definition may name them, so that what asks for them is refused by its own words, with its place; who asks whether
/// they are there is told no.
pub const NOT_YET: &[&str] = &[
    "source.git.signatureverify",
    "source.git.bundle",
    "source.git.checkoutbundle",
    "source.http.signatureverify",
    "source.imageblob",
    "exec.meta.security.devices.v1",
    "exec.meta.cdi",
    "exec.meta.network.proxy",
    "cache.gha",
    "cache.s3",
    "cache.azblob",
    "exporter.image.attestations",
    "exporter.session",
    "source.policy",
    "source.policy.session",
    "history.filter",
];

/// Whether rhost does what capability `cap` stands for.
pub fn supported(cap: &str) -> bool {
    KNOWN.contains(&cap) && !NOT_YET.contains(&cap)
}

/// What an op asks for.
pub fn of_op(op: &Op) -> BTreeSet<&'static str> {
    match &op.kind {
        None | Some(OpKind::Build(_)) => BTreeSet::new(),
        Some(OpKind::Exec(exec)) => of_exec(exec),
        Some(OpKind::Source(source)) => of_source(source),
        Some(OpKind::File(_)) => BTreeSet::from(["file.base"]),
        Some(OpKind::Merge(_)) => BTreeSet::from(["mergeop"]),
        Some(OpKind::Diff(_)) => BTreeSet::from(["diffop"]),
        Some(OpKind::Passthrough(_)) => BTreeSet::from(["passthroughop"]),
    }
}

/// What the head op asks for, given the metadata of all others.
pub fn of_head<'a>(metadata: impl Iterator<Item = &'a OpMetadata>) -> BTreeSet<&'static str> {
    let mut caps = BTreeSet::from(["constraints", "platform"]);
    for one in metadata {
        caps.extend(one.ignore_cache.then_some("meta.ignorecache"));
        caps.extend((!one.description.is_empty()).then_some("meta.description"));
        caps.extend(one.export_cache.is_some().then_some("meta.exportcache"));
    }
    caps
}

fn of_exec(exec: &ExecOp) -> BTreeSet<&'static str> {
    let mut caps = BTreeSet::from(["exec.meta.base", "exec.meta.setsdefaultpath"]);
    let mut when = |condition: bool, cap| caps.extend(condition.then_some(cap));
    if let Some(meta) = &exec.meta {
        when(!meta.valid_exit_codes.is_empty(), "exec.validexitcode");
        when(!meta.ulimits.is_empty(), "exec.meta.ulimit");
        when(meta.proxy_env.is_some(), "exec.meta.proxyenv");
    }
    when(exec.network != NetMode::Sandbox, "exec.meta.network");
    when(exec.security != SecurityMode::Sandbox, "exec.meta.security");
    when(!exec.cdi_devices.is_empty(), "exec.meta.cdi");
    when(!exec.secret_env.is_empty(), "exec.secretenv");
    when(!exec.secret_env.is_empty(), "exec.mount.secret");
    for mount in &exec.mounts {
        when(!mount.selector.is_empty(), "exec.mount.selector");
        when(mount.content_cache != ContentCache::Default, "exec.mount.cache.content");
        match mount.mount_type {
            MountType::Bind => when(mount.input_index().is_some(), "exec.mount.bind"),
            MountType::Secret => when(true, "exec.mount.secret"),
            MountType::Ssh => when(true, "exec.mount.ssh"),
            MountType::Cache => {
                when(true, "exec.mount.cache");
                when(true, "exec.mount.cache.sharing");
            }
            MountType::Tmpfs => {
                when(true, "exec.mount.tmpfs");
                when(mount.tmpfs_opt.as_ref().is_some_and(|options| options.size > 0), "exec.mount.tmpfs.size");
            }
        }
    }
    caps
}

fn of_source(source: &SourceOp) -> BTreeSet<&'static str> {
    let Some((scheme, _)) = source.split() else { return BTreeSet::new() };
    let mut caps = BTreeSet::new();
    let mut when_attr = |attribute: &str, cap| caps.extend(source.attr(attribute).is_some().then_some(cap));
    match scheme {
        SourceScheme::Image => {
            when_attr(attr::IMAGE_LAYER_LIMIT, "source.image.layerlimit");
            when_attr(attr::IMAGE_CHECKSUM, "source.image.checksum");
            // Only pulling is enforced; the other modes are wishes.
            caps.extend((source.attr(attr::IMAGE_RESOLVE_MODE) == Some("pull")).then_some("source.image.resolvemode"));
            caps.insert("source.image");
        }
        SourceScheme::OciLayout => {
            caps.insert("source.ocilayout");
        }
        SourceScheme::ImageBlob | SourceScheme::OciLayoutBlob => {
            caps.insert("source.imageblob");
        }
        SourceScheme::Local => {
            when_attr(attr::LOCAL_SESSION, "source.local.sessionid");
            when_attr(attr::LOCAL_UNIQUE, "source.local.unique");
            when_attr(attr::LOCAL_INCLUDE_PATTERNS, "source.local.includepatterns");
            when_attr(attr::LOCAL_FOLLOW_PATHS, "source.local.followpaths");
            when_attr(attr::LOCAL_EXCLUDE_PATTERNS, "source.local.excludepatterns");
            when_attr(attr::LOCAL_SHARED_KEY_HINT, "source.local.sharedkeyhint");
            when_attr(attr::LOCAL_METADATA_TRANSFER, "source.local.metadatatransfer");
            caps.insert("source.local");
        }
        SourceScheme::Git => {
            for (attribute, cap) in [
                (attr::GIT_KEEP_DIR, "source.git.keepgitdir"),
                (attr::GIT_FULL_URL, "source.git.fullurl"),
                (attr::GIT_KNOWN_SSH_HOSTS, "source.git.knownsshhosts"),
                (attr::GIT_MOUNT_SSH_SOCK, "source.git.mountsshsock"),
                (attr::GIT_CHECKSUM, "source.git.checksum"),
                (attr::GIT_SKIP_SUBMODULES, "source.git.skipsubmodules"),
                (attr::GIT_MTIME, "source.git.mtime"),
                (attr::GIT_FETCH_BY_COMMIT, "source.git.fetchbycommit"),
                (attr::GIT_BUNDLE, "source.git.bundle"),
                (attr::GIT_CHECKOUT_BUNDLE, "source.git.checkoutbundle"),
            ] {
                when_attr(attribute, cap);
            }
            // BuildKit's client scans the keys of the host, asks for this even when the scan fails, and mounts the agent.
            when_attr(attr::GIT_MOUNT_SSH_SOCK, "source.git.knownsshhosts");
            let own = |attribute, default| source.attr(attribute).is_some_and(|secret| secret != default);
            let auth = own(attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN")
                || own(attr::GIT_AUTH_HEADER_SECRET, "GIT_AUTH_HEADER");
            caps.extend(auth.then_some("source.git.httpauth"));
            caps.insert("source.git");
        }
        SourceScheme::Http | SourceScheme::Https => {
            for (attribute, cap) in [
                (attr::HTTP_CHECKSUM, "source.http.checksum"),
                (attr::HTTP_PERM, "source.http.perm"),
                (attr::HTTP_UID, "soruce.http.uidgid"),
                (attr::HTTP_GID, "soruce.http.uidgid"),
                (attr::HTTP_AUTH_HEADER_SECRET, "source.http.auth"),
                (attr::HTTP_HEADER_ACCEPT, "source.http.header"),
                (attr::HTTP_HEADER_USER_AGENT, "source.http.header"),
                (attr::HTTP_SIGNATURE_PUBKEY, "source.http.signatureverify"),
                (attr::HTTP_SIGNATURE, "source.http.signatureverify"),
            ] {
                when_attr(attribute, cap);
            }
            caps.insert("source.http");
        }
    }
    caps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_known_and_not_promised() {
        assert!(NOT_YET.iter().all(|cap| KNOWN.contains(cap) && !supported(cap)));
        assert!(supported("source.git.checksum") && supported("exec.mount.ssh") && !supported("source.warp"));
        // Each is what a source may ask for: it is decoded, and refused by the operation.
        for (scheme, attribute) in [
            ("git://h/x", attr::GIT_BUNDLE),
            ("git://h/x", attr::GIT_CHECKOUT_BUNDLE),
            ("https://h/x", attr::HTTP_SIGNATURE),
        ] {
            let source = SourceOp { identifier: scheme.into(), attrs: Default::default() }.with_attr(attribute, "x");
            assert!(of_source(&source).iter().any(|cap| NOT_YET.contains(cap)), "{attribute}");
        }
    }
}
