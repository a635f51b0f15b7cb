//! `SourceOp`: something from outside, named by an identifier with a scheme, refined by attributes (spec A.2).
use std::collections::BTreeMap;

use crate::wire::message;

message! {
    /// Something from outside.
    pub struct SourceOp {
        /// `docker-image://…`, `local://…`, …; see [`SourceScheme`].
        identifier: String = 1 "identifier",
        /// See [`attr`].
        attrs: BTreeMap<String, String> = 2 "attrs",
    }
}

/// The schemes of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceScheme {
    /// `docker-image://REF[@DIGEST]`
    Image,
    /// `oci-layout://NAME@DIGEST`
    OciLayout,
    /// `local://NAME`
    Local,
    /// `git://REMOTE[#REF[:DIR]]`
    Git,
    /// `http://…`
    Http,
    /// `https://…`
    Https,
    /// `docker-image+blob://REF@DIGEST`
    ImageBlob,
    /// `oci-layout+blob://NAME@DIGEST`
    OciLayoutBlob,
}

impl SourceScheme {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Image,
        Self::OciLayout,
        Self::Local,
        Self::Git,
        Self::Http,
        Self::Https,
        Self::ImageBlob,
        Self::OciLayoutBlob,
    ];

    /// `docker-image`, …, without `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "docker-image",
            Self::OciLayout => "oci-layout",
            Self::Local => "local",
            Self::Git => "git",
            Self::Http => "http",
            Self::Https => "https",
            Self::ImageBlob => "docker-image+blob",
            Self::OciLayoutBlob => "oci-layout+blob",
        }
    }

    /// Whether the op carries a platform (spec A.3).
    pub const fn has_platform(self) -> bool {
        matches!(self, Self::Image | Self::OciLayout)
    }
}

impl SourceOp {
    /// A source of this scheme; `rest` is what follows `://`.
    pub fn new(scheme: SourceScheme, rest: &str) -> Self {
        Self { identifier: format!("{}://{rest}", scheme.name()), attrs: BTreeMap::new() }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with_attr(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attrs.insert(name.to_owned(), value.into());
        self
    }

    /// The scheme and what follows `://`; `None` for a scheme that LLB does not have.
    pub fn split(&self) -> Option<(SourceScheme, &str)> {
        let (name, rest) = self.identifier.split_once("://")?;
        SourceScheme::ALL.into_iter().find(|scheme| scheme.name() == name).map(|scheme| (scheme, rest))
    }

    /// An attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.get(name).map(String::as_str)
    }

    /// An attribute that is a JSON array of strings (include, exclude, follow paths); absent is empty, malformed is `None`.
    pub fn attr_list(&self, name: &str) -> Option<Vec<String>> {
        self.attr(name).map_or(Some(Vec::new()), |text| serde_json::from_str(text).ok())
    }
}

/// Names of attributes.
pub mod attr {
    macro_rules! names {
        ($($name:ident = $text:literal;)*) => {$(
            #[doc = concat!("`", $text, "`")]
            pub const $name: &str = $text;
        )*};
    }
    names! {
        IMAGE_RESOLVE_MODE = "image.resolvemode";
        IMAGE_RECORD_TYPE = "image.recordtype";
        IMAGE_LAYER_LIMIT = "image.layerlimit";
        IMAGE_CHECKSUM = "image.checksum";
        OCI_SESSION = "oci.session";
        OCI_STORE = "oci.store";
        OCI_LAYER_LIMIT = "oci.layerlimit";
        LOCAL_SESSION = "local.session";
        LOCAL_UNIQUE = "local.unique";
        LOCAL_INCLUDE_PATTERNS = "local.includepattern";
        LOCAL_FOLLOW_PATHS = "local.followpaths";
        LOCAL_EXCLUDE_PATTERNS = "local.excludepatterns";
        LOCAL_SHARED_KEY_HINT = "local.sharedkeyhint";
        LOCAL_DIFFER = "local.differ";
        LOCAL_METADATA_TRANSFER = "local.metadatatransfer";
        LOCAL_METADATA_TRANSFER_EXCLUDE = "local.metadatatransferexclude";
        GIT_FULL_URL = "git.fullurl";
        GIT_KEEP_DIR = "git.keepgitdir";
        GIT_AUTH_TOKEN_SECRET = "git.authtokensecret";
        GIT_AUTH_HEADER_SECRET = "git.authheadersecret";
        GIT_KNOWN_SSH_HOSTS = "git.knownsshhosts";
        GIT_MOUNT_SSH_SOCK = "git.mountsshsock";
        GIT_CHECKSUM = "git.checksum";
        GIT_SKIP_SUBMODULES = "git.skipsubmodules";
        GIT_MTIME = "git.mtime";
        GIT_FETCH_BY_COMMIT = "git.fetchbycommit";
        GIT_BUNDLE = "git.bundle";
        GIT_CHECKOUT_BUNDLE = "git.checkoutbundle";
        HTTP_CHECKSUM = "http.checksum";
        HTTP_FILENAME = "http.filename";
        HTTP_PERM = "http.perm";
        HTTP_UID = "http.uid";
        HTTP_GID = "http.gid";
        HTTP_AUTH_HEADER_SECRET = "http.authheadersecret";
        HTTP_HEADER_ACCEPT = "http.header.accept";
        HTTP_HEADER_USER_AGENT = "http.header.user-agent";
        HTTP_SIGNATURE_PUBKEY = "http.sig.pubkey";
        HTTP_SIGNATURE = "http.sig.signature";
    }
}
