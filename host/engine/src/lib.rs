//! The composition root: the only place that joins the rooms. It picks the frontend, runs it, solves what it answers, exports.
mod agent;
mod answers;
mod arriving;
mod blame;
mod cache_mounts;
mod config;
mod descriptions;
mod directory;
mod downloads;
mod emulation;
mod engine;
mod entitlements;
mod epoch;
mod error;
mod event;
mod explain;
mod export;
mod file_name;
mod frontends;
mod gc;
mod git;
mod git_url;
mod http_date;
mod images;
mod layers;
mod lent;
mod lock;
mod missing;
mod once;
mod op_error;
mod ops;
mod overlay;
mod prepare;
mod pull;
mod push;
mod recordings;
mod remote;
mod request;
mod rules;
mod said;
mod save;
mod session;
mod shared;
mod ship;
mod store_blocks;
mod syntax;
mod uploads;
mod value;

pub use agent::{AgentKey, KeyError, SshAgent, SshAgentError};
pub use cache_mounts::{CacheMountListing, ExportedMount, ImportMode, ImportedMount, MountChoice};
pub use config::{BuildSettings, EmulationSettings, HttpSettings, Settings};
pub use directory::LentDirectory;
pub use engine::{Dumped, Engine, EngineOptions};
pub use entitlements::{Entitlement, Entitlements, UnknownEntitlement};
pub use error::{BuildError, Kind, Place};
pub use event::{Event, Events, Finding};
pub use explain::{
    Cause, Change, Compared, Explanation, How, KeyInput, KeyPart, PartKind, State, StepExplained, Values, Why,
};
pub use export::{Exported, to_stdout};
pub use frontends::{Because, ChosenFrontend, FrontendBytes, FrontendSource};
pub use gc::{GcSettings, Space, parse_duration};
pub use git::{GitOptions, GitSettings};
pub use lent::{LARGEST_SECRET, Lent, SecretSource};
pub use lock::{
    Entries, Fetched, GitPin, HttpPin, LockChange, LockError, LockFile, LockKey, LockKind, Locked, Locking, Pin,
    SourceRules, Vendored, print as print_lock,
};
pub use pull::PullPlatforms;
pub use remote::{HEAD, RemoteUrl, looks_like_archive};
pub use request::{BuildFile, BuildRequest, Context, FrontendChoice, GraphRequest, NamedContext, NoCache};
pub use rhost_exec::SecretBytes;
pub use rhost_export::cache::{CachePlace, PlaceError};
pub use rhost_export::{check_file, write_file};
pub use rhost_frontend::{About, Embedded, Inspection};
pub use rhost_registry::{CredentialSource, DockerConfig, HelperEnvironment, Proxies, WasmLayout, redact};
pub use rhost_rootfs::processors;
pub use rhost_store::{
    Filter, FilterError, ImageRecord, PruneOptions, Pruned, RecordKind, SpaceLimits, UsageRecord, human,
};
pub use rules::{Refusal, RuleFile, RuleLine};
pub use save::full_name;
pub use ship::{FrontendPush, PushedFrontend, annotations_of};
pub use uploads::Upload;

// Tests run programs of the host below a guard, which is the test binary again.
#[cfg(test)]
rhost_exec::init_before_main!();
