//! What tests stand on: a private host for the `rhost` binary, a real registry, base images from Debian packages.
//!
//! Nothing here is a double: the registry is `docker-registry`, images are pushed by `skopeo`, files come from Debian.
//! What costs time is cached between runs in the user's cache directory, keyed by recipe and Debian version.
mod base_image;
mod buildkitd;
mod cache;
mod git_server;
mod host;
mod keeper;
mod layout;
mod noise;
mod proxy;
mod registry;
mod skip;
mod torture;

pub use base_image::{Image, busybox, busybox_everywhere, debian};
pub use buildkitd::{Buildkitd, peer};
pub use cache::{cached, kept};
pub use git_server::{GitServer, SshServer, git};
pub use host::{Ran, TestHost, host_with_busybox, rhost_binary};
pub use keeper::Keeper;
pub use layout::{Platform, write_layout};
pub use noise::noise;
pub use proxy::{Answer, Asked, Proxy};
pub use registry::{LOGIN, Registry};
pub use skip::{have, have_users, is_root, skip};
pub use torture::{Files, Torture, files, nothing_left};
