//! What the handles of guests stand for.
pub struct SourceMap;
pub struct Diagnostic;
pub struct State;
pub struct Metadata;
pub struct Exec;
pub struct CopyAction;
pub struct File;
pub struct PendingImage;
pub struct PendingTree;
pub struct Tree;
pub struct Invocation;
pub struct Outcome;
