//! `--progress rawjson`: one JSON object a line, in the shape of BuildKit's client.SolveStatus (spec C.5).
use std::io::{self, Write};

use base64::Engine as _;
use rhost_engine::Event;
use serde_json::{Value, json};

/// Stateless: each event is a line of its own.
pub struct RawJson;

impl super::Render for RawJson {
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        if let Event::Explanation(_) = event {
            // It goes to stdout.
            return Ok(());
        }
        serde_json::to_writer(&mut *out, &value(event))?;
        out.write_all(b"\n")
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.flush()
    }
}

fn value(event: &Event) -> Value {
    match event {
        Event::Started { vertex, name, inputs, at } => {
            json!({"vertexes": [{"digest": vertex.to_string(), "inputs": inputs.iter().map(ToString::to_string).collect::<Vec<_>>(), "name": &**name, "started": at.to_string()}]})
        }
        Event::Completed { vertex, name, at, cached, error } => {
            let mut vertex = json!({"digest": vertex.to_string(), "name": &**name, "completed": at.to_string()});
            if *cached {
                vertex["cached"] = true.into();
            }
            if let Some(error) = error {
                vertex["error"] = (**error).into();
            }
            json!({"vertexes": [vertex]})
        }
        Event::Status { vertex, id, current, total, started, at, done } => {
            let mut status = json!({"id": &**id, "vertex": vertex.to_string(), "current": current, "timestamp": at.to_string(), "started": started.to_string()});
            if *total > 0 {
                status["total"] = (*total).into();
            }
            if *done {
                status["completed"] = at.to_string().into();
            }
            json!({"statuses": [status]})
        }
        Event::Waiting { vertex, what, at, over } => {
            let mut status = json!({"id": &**what, "vertex": vertex.to_string(), "timestamp": at.to_string(), "started": at.to_string()});
            if *over {
                status["completed"] = at.to_string().into();
            }
            json!({"statuses": [status]})
        }
        Event::Log { vertex, stream, bytes, at } => {
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            json!({"logs": [{"vertex": vertex.to_string(), "stream": stream, "data": data, "timestamp": at.to_string()}]})
        }
        Event::Finding(finding) => {
            let encode = |text: &[u8]| base64::engine::general_purpose::STANDARD.encode(text);
            let details: Vec<String> = finding.details.iter().map(|detail| encode(detail.as_bytes())).collect();
            let mut warning =
                json!({"vertex": "", "level": 1, "short": encode(finding.short().as_bytes()), "detail": details});
            if let Some(url) = &finding.url {
                warning["url"] = url.as_str().into();
            }
            if let Some((file, data, ranges)) = &finding.place {
                warning["sourceInfo"] = json!({"filename": file, "data": encode(data)});
                let ranges =
                    ranges.iter().map(|(first, last)| json!({"start": {"line": first}, "end": {"line": last}}));
                warning["range"] = ranges.collect();
            }
            json!({"warnings": [warning]})
        }
        // Not of BuildKit's, whose readers pass over what they do not know.
        Event::Because { vertex, step } => {
            json!({"explanations": [{"vertex": vertex.to_string(), "step": step.step, "because": step.because, "causes": step.causes, "hint": step.hint}]})
        }
        Event::Explanation(_) => json!({}),
        Event::Warning { vertex, message } => {
            let short = base64::engine::general_purpose::STANDARD.encode(message.as_bytes());
            json!({"warnings": [{"vertex": vertex.map(|v| v.to_string()).unwrap_or_default(), "level": 1, "short": short}]})
        }
    }
}
