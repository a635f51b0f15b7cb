//! Tests of names, credentials, registries (a real one, and a small faulty one), layouts and artifacts.
mod artifacts;
mod credentials;
mod faults;
mod faulty;
mod layouts;
mod references;
mod registries;
mod support;
mod tokens;
