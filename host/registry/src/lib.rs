//! Registries and OCI layouts as sources and targets of images: names, credentials, resolve, pull, push, mirrors.
//!
//! This crate never reads the environment, the home directory or a terminal: every path, proxy and credential is handed
//! in as a value. It stores nothing: bytes go to a [`BlobSink`] and come from a [`BlobSource`] of the caller's. All that
//! a registry says is hostile until its digest was checked.
mod answer;
mod auth;
mod client;
mod config;
mod credentials;
mod descriptor;
mod endpoints;
mod error;
mod fetch;
mod layout;
mod platforms;
mod pull;
mod push;
mod redact;
mod reference;
mod resolve;
mod source;
mod tls;
mod transport;
mod url_error;
mod url_fetch;
mod wasm;

pub use auth::parse_challenges;
pub use client::{Client, ClientOptions, Proxies, Retry};
pub use config::{ConfigError, HostConfig, KeyPair, RegistryConfig};
pub use credentials::{Credential, CredentialError, CredentialSource, DockerConfig, HelperEnvironment, NoCredentials};
pub use descriptor::{Descriptor, Manifest, ManifestKind, RawManifest, media_type};
pub use error::{Error, ErrorKind};
pub use layout::OciLayout;
pub use platforms::{choose, compatible};
pub use pull::{Pulled, pull_blobs};
pub use push::Pushed;
pub use redact::redact;
pub use reference::{Reference, ReferenceError};
pub use resolve::{ResolvedImage, fetch_small, resolve};
pub use source::{BlobSink, BlobSource, BlobStore, ImageSource, MemorySink};
pub use url_error::{UrlError, UrlStage};
pub use url_fetch::{UrlAnswer, UrlHead, UrlRequest, Validators, percent_decode};
pub use wasm::{WasmArtifact, WasmDescription, WasmLayout, pull_wasm, push_wasm};
