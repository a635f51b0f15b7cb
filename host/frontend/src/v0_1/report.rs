//! `report`: log lines and findings.
use wasmtime::Result as Call;
use wasmtime::component::Resource;

use super::bindings::rhost::frontend::report::{Host, HostDiagnostic, Level, Severity};
use super::bindings::rhost::frontend::types::Range;
use super::convert;
use super::guest::{Guest, bound};
use super::handles::{Diagnostic, SourceMap};
use crate::host::{self, Mark, Report};

/// Marks and details of one finding.
const PARTS: usize = 1_000;

impl Guest {
    fn emit(&mut self, finding: host::Diagnostic) {
        if finding.severity == host::Severity::Error {
            self.errors += 1;
        }
        let bytes = finding.message.len() + finding.details.iter().map(String::len).sum::<usize>();
        self.report(Report::Diagnostic(finding), bytes);
    }

    fn change_finding(
        &mut self,
        handle: &Resource<Diagnostic>,
        bytes: usize,
        change: impl FnOnce(&mut host::Diagnostic),
    ) -> Call<()> {
        self.hand_over(bytes)?;
        let finding = &mut self.table.get_mut(handle)?.finding;
        change(finding);
        Ok(bound(
            finding.marks.len().max(finding.details.len()),
            PARTS,
            "one diagnostic has too many marks or details",
        )?)
    }
}

fn finding(severity: host::Severity, code: String, message: String) -> host::Diagnostic {
    host::Diagnostic { severity, code, message, details: Vec::new(), help: None, url: None, marks: Vec::new() }
}

impl Host for Guest {
    async fn log(&mut self, level: Level, message: String) -> Call<()> {
        if level == Level::Error {
            self.last_words = Some(message.clone());
        }
        let bytes = message.len();
        self.report(Report::Log { level: convert::level(level), message }, bytes);
        Ok(())
    }

    async fn warning(
        &mut self,
        code: String,
        message: String,
        at: Option<Resource<SourceMap>>,
        ranges: Vec<Range>,
    ) -> Call<()> {
        let mut finding = finding(host::Severity::Warning, code, message);
        if let Some(source) = at {
            let source = &self.table.get(&source)?.text;
            let mark =
                |range| Mark { source: source.clone(), range: convert::report_range(range), text: String::new() };
            finding.marks = ranges.into_iter().take(PARTS).map(mark).collect();
        }
        self.emit(finding);
        Ok(())
    }
}

impl HostDiagnostic for Guest {
    async fn new(&mut self, severity: Severity, message: String) -> Call<Resource<Diagnostic>> {
        self.hand_over(message.len())?;
        let finding = finding(convert::severity(severity), String::new(), message);
        Ok(self.table.push(Diagnostic { finding, emitted: false })?)
    }

    async fn code(&mut self, handle: Resource<Diagnostic>, code: String) -> Call<()> {
        self.change_finding(&handle, code.len(), |finding| finding.code = code)
    }

    async fn mark(
        &mut self,
        handle: Resource<Diagnostic>,
        at: Resource<SourceMap>,
        range: Range,
        text: String,
    ) -> Call<()> {
        let source = self.table.get(&at)?.text.clone();
        let mark = Mark { source, range: convert::report_range(range), text };
        self.last_place = Some((mark.source.clone(), mark.range));
        self.change_finding(&handle, mark.text.len(), |finding| finding.marks.push(mark))
    }

    async fn detail(&mut self, handle: Resource<Diagnostic>, text: String) -> Call<()> {
        self.change_finding(&handle, text.len(), |finding| finding.details.push(text))
    }

    async fn help(&mut self, handle: Resource<Diagnostic>, text: String) -> Call<()> {
        self.change_finding(&handle, text.len(), |finding| finding.help = Some(text))
    }

    async fn url(&mut self, handle: Resource<Diagnostic>, url: String) -> Call<()> {
        self.change_finding(&handle, url.len(), |finding| finding.url = Some(url))
    }

    async fn emit(&mut self, handle: Resource<Diagnostic>) -> Call<()> {
        let diagnostic = self.table.get_mut(&handle)?;
        if !std::mem::replace(&mut diagnostic.emitted, true) {
            let finding = diagnostic.finding.clone();
            Guest::emit(self, finding);
        }
        Ok(())
    }

    async fn drop(&mut self, handle: Resource<Diagnostic>) -> Call<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
