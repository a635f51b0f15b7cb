//! What a build takes: the arguments, secrets and agents of a target, for `frontend.outline`; and the targets of a file, for
//! `frontend.targets` (spec B.4). Answers are JSON in BuildKit's shapes and a table for people.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::convert::converter::Converter;
use crate::convert::golang;
use crate::convert::graph::Range;
use crate::convert::stage::{StageId, ranges};
use crate::instruction::{Arg, Dockerfile};

/// An argument as it was last declared.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArgInfo {
    pub value: String,
    pub doc: Option<String>,
    /// Arguments that its default mentions.
    pub deps: BTreeSet<String>,
    pub ranges: Vec<Range>,
}

impl ArgInfo {
    pub(crate) fn new(arg: &Arg, ranges: &[Range]) -> Self {
        Self { doc: arg.doc.clone(), ranges: ranges.to_vec(), ..Self::default() }
    }
}

/// A secret or an agent.
#[derive(Debug, Clone)]
pub(crate) struct Lent {
    pub required: bool,
    pub ranges: Vec<Range>,
}

/// What one stage takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outline {
    pub args: BTreeMap<String, ArgInfo>,
    pub used: BTreeSet<String>,
    pub secrets: BTreeMap<String, Lent>,
    pub ssh: BTreeMap<String, Lent>,
}

impl Outline {
    /// The arguments in use, and those that their defaults mention.
    fn all_used(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<&str> = self.used.iter().map(String::as_str).collect();
        while let Some(name) = todo.pop() {
            if seen.insert(name)
                && let Some(arg) = self.args.get(name)
            {
                todo.extend(arg.deps.iter().map(String::as_str));
            }
        }
        seen
    }
}

/// An answer in both forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `result.json`.
    pub json: String,
    /// `result.txt`.
    pub text: String,
    /// `version` of the request.
    pub version: &'static str,
    /// `result.statuscode`, where the request has one.
    pub status: Option<u8>,
}

/// JSON as Go indents and escapes it.
pub(crate) fn pretty(value: &Value) -> String {
    golang::escape_json(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A place as BuildKit writes it: lines only.
pub(crate) fn location(ranges: &[Range]) -> Value {
    let position = |line: u32| if line == 0 { json!({}) } else { json!({ "line": line }) };
    let ranges: Vec<Value> =
        ranges.iter().map(|r| json!({"start": position(r.start_line), "end": position(r.end_line)})).collect();
    if ranges.is_empty() { json!({}) } else { json!({ "ranges": ranges }) }
}

/// Adds what is not empty.
fn put(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    };
    if !empty {
        object.insert(key.to_owned(), value);
    }
}

/// Columns of text: all but the last as wide as their widest cell and `gap` more.
fn table(rows: &[Vec<String>], gap: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0) + gap).collect();
    let mut out = String::new();
    for row in rows {
        for (c, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if c + 1 < columns {
                out.extend(std::iter::repeat_n(' ', widths[c] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

/// What this frontend can be asked, for `frontend.subrequests.describe`: names, versions and descriptions as BuildKit's clients know
/// them. BuildKit leaves out the linter, and so is it left out here.
pub(crate) fn requests() -> Answer {
    const VERSION: &str = "1.0.0";
    let request = |name: &str, description: &str, options: Value| {
        let results = ["result.json", "result.txt"].map(|name| json!({"name": name, "description": ""}));
        json!({
            "name": format!("frontend.{name}"), "version": VERSION, "type": "rpc", "description": description,
            "opts": options, "inputs": null, "metadata": results, "refs": null,
        })
    };
    let target = json!([{"name": "target", "description": "Target build stage"}]);
    let known = [
        request("outline", "List all parameters current build target supports", target),
        request("targets", "List all targets current build supports", json!([])),
        request("subrequests.describe", "List available subrequest types", Value::Null),
    ];
    let mut rows = vec![["NAME", "VERSION", "DESCRIPTION"].map(str::to_owned).to_vec()];
    for request in &known {
        let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        rows.push(vec![text("name").trim_start_matches("frontend.").to_owned(), text("version"), text("description")]);
    }
    Answer { json: pretty(&Value::Array(known.to_vec())), text: table(&rows, 1), version: VERSION, status: None }
}

impl Converter<'_> {
    /// The stages in the order in which BuildKit looks at them: the target, its base and theirs, then what it copies from.
    fn outlined(&self, target: StageId) -> Vec<StageId> {
        let (mut order, mut seen, mut todo) = (Vec::new(), BTreeSet::new(), vec![target]);
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                order.push(id);
                let stage = &self.stages[id];
                todo.extend(stage.deps.iter().rev());
                todo.extend(stage.base);
            }
        }
        order
    }

    /// The answer to `frontend.outline`.
    pub(crate) fn outline(&self, target: StageId, doc: Option<&str>, source: &[u8]) -> Answer {
        let order = self.outlined(target);
        let mut args: Vec<(&str, &ArgInfo)> = Vec::new();
        let (mut secrets, mut ssh): (Vec<(&str, &Lent)>, Vec<(&str, &Lent)>) = (Vec::new(), Vec::new());
        for &id in &order {
            let outline = &self.stages[id].outline;
            for name in outline.all_used() {
                if let Some(arg) = outline.args.get(name)
                    && args.iter().all(|(known, _)| *known != name)
                {
                    args.push((name, arg));
                }
            }
            for (from, to) in [(&outline.secrets, &mut secrets), (&outline.ssh, &mut ssh)] {
                for (name, lent) in from {
                    if to.iter().all(|(known, _)| known != name) {
                        to.push((name, lent));
                    }
                }
            }
        }
        let line = |ranges: &[Range]| ranges.first().map_or(0, |r| r.start_line);
        args.sort_by_key(|(_, arg)| line(&arg.ranges));
        secrets.sort_by_key(|(_, lent)| line(&lent.ranges));
        ssh.sort_by_key(|(_, lent)| line(&lent.ranges));

        let name = self.stages[target].name.clone().unwrap_or_default();
        let doc = doc.unwrap_or_default();
        let mut object = Map::new();
        put(&mut object, "name", name.as_str());
        put(&mut object, "description", doc);
        let listed: Vec<Value> = args
            .iter()
            .map(|(name, arg)| {
                let mut one = Map::new();
                one.insert("name".into(), (*name).into());
                put(&mut one, "description", arg.doc.clone().unwrap_or_default());
                put(&mut one, "value", arg.value.as_str());
                one.insert("location".into(), location(&arg.ranges));
                Value::Object(one)
            })
            .collect();
        put(&mut object, "args", listed);
        for (key, all) in [("secrets", &secrets), ("ssh", &ssh)] {
            let listed: Vec<Value> = all
                .iter()
                .map(|(name, lent)| {
                    let mut one = Map::new();
                    one.insert("name".into(), (*name).into());
                    put(&mut one, "required", lent.required);
                    one.insert("location".into(), location(&lent.ranges));
                    Value::Object(one)
                })
                .collect();
            put(&mut object, key, listed);
        }
        put(&mut object, "sources", vec![Value::from(golang::base64(source))]);

        let mut text = String::new();
        if !name.is_empty() || !doc.is_empty() {
            let shown = if name.is_empty() { "(default)" } else { &name };
            let mut rows = vec![vec!["TARGET:".to_owned(), shown.to_owned()]];
            if !doc.is_empty() {
                rows.push(vec!["DESCRIPTION:".to_owned(), doc.to_owned()]);
            }
            text += &table(&rows, 1);
            text.push('\n');
        }
        if !args.is_empty() {
            let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned).to_vec()];
            rows.extend(
                args.iter().map(|(name, arg)| {
                    vec![(*name).to_owned(), arg.value.clone(), arg.doc.clone().unwrap_or_default()]
                }),
            );
            text += &table(&rows, 3);
            text.push('\n');
        }
        for (title, all) in [("SECRET", &secrets), ("SSH", &ssh)] {
            if !all.is_empty() {
                let mut rows = vec![[title, "REQUIRED"].map(str::to_owned).to_vec()];
                rows.extend(all.iter().map(|(name, lent)| {
                    vec![(*name).to_owned(), if lent.required { "true".into() } else { String::new() }]
                }));
                text += &table(&rows, 3);
                text.push('\n');
            }
        }
        Answer { json: pretty(&Value::Object(object)), text, version: "1.0.0", status: None }
    }
}

/// The answer to `frontend.targets`.
pub(crate) fn targets(file: &Dockerfile, source: &[u8]) -> Answer {
    let last = file.stages.len().saturating_sub(1);
    let mut rows = vec![["TARGET", "DESCRIPTION"].map(str::to_owned).to_vec()];
    let mut listed = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let name = stage.name.clone().unwrap_or_default();
        let doc = stage.doc.clone().unwrap_or_default();
        let mut one = Map::new();
        put(&mut one, "name", name.as_str());
        put(&mut one, "default", index == last);
        put(&mut one, "description", doc.as_str());
        put(&mut one, "base", stage.base.as_str());
        put(&mut one, "platform", stage.platform.clone().unwrap_or_default());
        one.insert("location".into(), location(&ranges(stage.span)));
        listed.push(Value::Object(one));
        let shown = match (name.is_empty(), index == last) {
            (true, true) => "(default)".to_owned(),
            (false, true) => format!("{name} (default)"),
            (_, false) => name,
        };
        rows.push(vec![shown, doc]);
    }
    let json = pretty(&json!({"targets": listed, "sources": [golang::base64(source)]}));
    Answer { json, text: table(&rows, 1), version: "1.0.0", status: None }
}
