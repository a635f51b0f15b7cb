//! What people test their frontends with: table tests over build files, in any language.
//!
//! A frontend's answer is a function of its component, what it is asked, and what the host tells it. So a test is a folder that holds all of
//! that: a build file, options, images and trees that are not there; and what is compared is the graph as text, configurations and findings.
//! Nothing here asks a network or solves anything. The cli loads the frontend and prints.
mod altered;
mod case;
mod conformance;
mod diff;
mod fake;
mod golden;
mod run;

pub use case::{Case, CaseError, FakeImage, FakeSolve, find_cases};
pub use conformance::{Conforms, check_conformance};
pub use diff::unified_diff;
pub use fake::{FakeHost, Missing};
pub use golden::{Golden, report_text};
pub use run::{CaseResult, Verdict, run_case, run_cases};
