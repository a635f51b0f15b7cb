//! `Op`: one vertex of the graph (spec A.1), and the small kinds of it.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::definition::Definition;
use crate::digest::VertexDigest;
use crate::exec_op::ExecOp;
use crate::file_op::FileOp;
use crate::platform::Platform;
use crate::source_op::SourceOp;
use crate::wire::{Budget, DecodeError, Field, JsonStyle, Message, Place, Raw, message, message_impl, put_bytes};

/// One vertex: what it is made from, and how. Its digest is that of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Op {
    /// The outputs of other vertices that it uses.
    pub inputs: Vec<Input>,
    /// The platform, for those ops that have one (exec, images).
    pub platform: Option<Platform>,
    /// Which workers may run it. Written even when empty, as BuildKit's clients do (spec A.3).
    pub constraints: Option<WorkerConstraints>,
    /// What is done; `None` only in the last op of a definition, which names the result.
    pub kind: Option<OpKind>,
}

/// What a vertex does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Runs a command.
    Exec(ExecOp),
    /// Brings something in.
    Source(SourceOp),
    /// Copies, makes, removes files.
    File(FileOp),
    /// Builds a definition that another vertex has made.
    Build(BuildOp),
    /// Lays inputs over each other.
    Merge(MergeOp),
    /// What the upper input has changed from the lower.
    Diff(DiffOp),
    /// Hands some of its inputs on; orders vertices.
    Passthrough(PassthroughOp),
}

impl OpKind {
    /// `exec`, `source`, `file`, `build`, `merge`, `diff`, `passthrough`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Source(_) => "source",
            Self::File(_) => "file",
            Self::Build(_) => "build",
            Self::Merge(_) => "merge",
            Self::Diff(_) => "diff",
            Self::Passthrough(_) => "passthrough",
        }
    }
}

impl Op {
    /// The exact bytes, in BuildKit's order: inputs, platform, constraints, then the oneof (spec A.3).
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire()
    }

    /// Reads an op. Only the wire form is checked; see [`crate::Graph`] for the rest.
    pub fn decode(bytes: &[u8], budget: &Budget) -> Result<Self, DecodeError> {
        Self::from_wire(bytes, budget)
    }

    /// The digest of its bytes: the vertex's name.
    pub fn digest(&self) -> VertexDigest {
        VertexDigest(crate::Digest::of(self.encode()))
    }

    /// The JSON form, for people.
    pub fn to_json(&self) -> Value {
        self.json(JsonStyle::Proto)
    }
}

impl Message for Op {
    const NAME: &'static str = "Op";

    fn absent() -> Self {
        Self::default()
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        self.inputs.put(1, out);
        self.platform.put(10, out);
        self.constraints.put(11, out);
        match &self.kind {
            None => {}
            Some(OpKind::Exec(op)) => put_bytes(2, &op.to_wire(), out),
            Some(OpKind::Source(op)) => put_bytes(3, &op.to_wire(), out),
            Some(OpKind::File(op)) => put_bytes(4, &op.to_wire(), out),
            Some(OpKind::Build(op)) => put_bytes(5, &op.to_wire(), out),
            Some(OpKind::Merge(op)) => put_bytes(6, &op.to_wire(), out),
            Some(OpKind::Diff(op)) => put_bytes(7, &op.to_wire(), out),
            Some(OpKind::Passthrough(op)) => put_bytes(8, &op.to_wire(), out),
        }
    }

    fn take_field(&mut self, number: u64, raw: Raw<'_>, budget: &Budget) -> Result<(), DecodeError> {
        let place = Place { message: Self::NAME, number, budget };
        macro_rules! payload {
            ($kind:ident) => {{
                let mut payload = None;
                Field::take(&mut payload, raw, place)?;
                self.kind = payload.map(OpKind::$kind);
            }};
        }
        match number {
            1 => self.inputs.take(raw, place)?,
            10 => Field::take(&mut self.platform, raw, place)?,
            11 => Field::take(&mut self.constraints, raw, place)?,
            2 => payload!(Exec),
            3 => payload!(Source),
            4 => payload!(File),
            5 => payload!(Build),
            6 => payload!(Merge),
            7 => payload!(Diff),
            8 => payload!(Passthrough),
            number => return Err(DecodeError::UnknownField { message: Self::NAME, number }),
        }
        Ok(())
    }

    fn json(&self, style: JsonStyle) -> Value {
        let mut object = Map::new();
        let mut insert = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        };
        insert("inputs", self.inputs.json(style));
        match &self.kind {
            None => {}
            Some(kind) => insert(
                kind.name(),
                Some(match kind {
                    OpKind::Exec(op) => op.json(style),
                    OpKind::Source(op) => op.json(style),
                    OpKind::File(op) => op.json(style),
                    OpKind::Build(op) => op.json(style),
                    OpKind::Merge(op) => op.json(style),
                    OpKind::Diff(op) => op.json(style),
                    OpKind::Passthrough(op) => op.json(style),
                }),
            ),
        }
        insert("platform", Field::json(&self.platform, style));
        insert("constraints", Field::json(&self.constraints, style));
        Value::Object(object)
    }
}

message_impl! {
    Platform {
        architecture = 1 "Architecture",
        os = 2 "OS",
        variant = 3 "Variant",
        os_version = 4 "OSVersion",
        os_features = 5 "OSFeatures",
    }
}

message! {
    /// An output of another vertex.
    pub struct Input {
        /// The vertex.
        digest: VertexDigest = 1 "digest",
        /// Which of its outputs.
        index: i64 = 2 "index",
    }
}

message! {
    /// Which workers may run an op.
    pub struct WorkerConstraints {
        /// containerd-style filters.
        filter: Vec<String> = 1 "filter",
    }
}

message! {
    /// Lays inputs over each other, the last on top.
    pub struct MergeOp {
        /// At least two.
        inputs: Vec<OpInput> = 1 "inputs",
    }
}

message! {
    /// An index into the op's inputs, or [`crate::EMPTY_INPUT`].
    pub struct OpInput {
        /// The index.
        input: i64 = 1 "input",
    }
}

message! {
    /// What `upper` has changed from `lower`.
    pub struct DiffOp {
        /// Required.
        lower: Option<OpInput> = 1 "lower",
        /// Required.
        upper: Option<OpInput> = 2 "upper",
    }
}

message! {
    /// Output i is input `outputs[i]`, once all inputs are there.
    pub struct PassthroughOp {
        /// Any name; tells such ops apart.
        id: String = 1 "id",
        /// Indexes into the op's inputs.
        outputs: Vec<i64> = 2 "outputs",
    }
}

/// `BuildOp.builder`: the builder that reads the op.
pub const SELF_BUILDER: i64 = -1;

message! {
    /// Builds a definition that lies in an input.
    pub struct BuildOp {
        /// Which input builds; only [`SELF_BUILDER`] exists.
        builder: i64 = 1 "builder",
        /// The inputs, by name; `buildkit.llb.definition` is the one that holds the definition.
        inputs: BTreeMap<String, OpInput> = 2 "inputs",
        /// A definition given right here.
        def: Option<Box<Definition>> = 3 "def",
        /// Options; `llbbuild.filename` names the file.
        attrs: BTreeMap<String, String> = 4 "attrs",
    }
}
