//! The composition root: the only place that joins the rooms. It picks the frontend, runs it, solves what it answers, exports.
mod arriving;
mod config;
mod engine;
mod error;
mod event;
mod export;
mod images;
mod layers;
mod op_error;
mod ops;
mod overlay;
mod request;
mod save;
mod session;
mod shared;
mod syntax;
mod value;

pub use config::Settings;
pub use engine::{Engine, EngineOptions};
pub use error::{BuildError, Kind, Place};
pub use event::{Event, Events};
pub use export::Exported;
pub use request::{BuildFile, BuildRequest, FrontendChoice, GraphRequest, NamedContext, NoCache};
pub use rhost_registry::{CredentialSource, DockerConfig, HelperEnvironment, Proxies};
pub use rhost_store::ImageRecord;
pub use save::full_name;
