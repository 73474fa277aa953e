use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use meav_protocol::{
    AuditEntry, Chat, Comparison, CrossDomain, ExportTarget, Fact, FinishReason, JudgeReport,
    Message, MessageState, Role, Sweep,
};
use meav_weights::write_file_atomically;
use serde::Serialize;
use uuid::Uuid;

use super::database::{Workspace, WorkspaceError};
use crate::error::EngineError;
use crate::figures::{
    comparison_csv, comparison_svg, cross_domain_csv, cross_domain_markdown, cross_domain_svg,
    csv_row, judgement_csv, judgement_markdown, png, sweeps_csv, sweeps_markdown, sweeps_svg,
};
use crate::one_line::{NAME_CHARS, one_line};

/// Writes a comparison of vectors to a file.
pub(crate) fn export_comparison(
    comparison: &Comparison,
    out: &ExportTarget,
) -> Result<Fact, EngineError> {
    let bytes = if has_ending(out, "json") {
        json(comparison).into_bytes()
    } else if has_ending(out, "svg") {
        comparison_svg(comparison).into_bytes()
    } else if has_ending(out, "png") {
        png(&comparison_svg(comparison)).map_err(EngineError::Figure)?
    } else {
        comparison_csv(comparison).into_bytes()
    };
    write_file(out, &bytes, format!("comparison of {} vectors", comparison.vectors.len()))
}

/// Writes sweeps to a file: one as it is, several as a list and over each other.
pub(crate) fn export_sweeps(sweeps: &[Sweep], out: &ExportTarget) -> Result<Fact, EngineError> {
    let bytes = if has_ending(out, "json") {
        sweeps_json(sweeps).into_bytes()
    } else if has_ending(out, "md") {
        sweeps_markdown(sweeps).into_bytes()
    } else if has_ending(out, "svg") {
        sweeps_svg(sweeps).into_bytes()
    } else if has_ending(out, "png") {
        png(&sweeps_svg(sweeps)).map_err(EngineError::Figure)?
    } else {
        sweeps_csv(sweeps).into_bytes()
    };
    write_file(out, &bytes, sweeps_summary(sweeps))
}

fn sweeps_json(sweeps: &[Sweep]) -> String {
    #[derive(Serialize)]
    struct Sweeps<'a> {
        sweeps: &'a [Sweep],
    }
    match sweeps {
        [sweep] => json(sweep),
        sweeps => json(&Sweeps { sweeps }),
    }
}

fn sweeps_summary(sweeps: &[Sweep]) -> String {
    match sweeps {
        [sweep] => {
            let domain = one_line(&sweep.vector.domain, NAME_CHARS);
            format!("sweep of {domain} at {} values of λ", sweep.points.len())
        }
        sweeps => format!("{} sweeps", sweeps.len()),
    }
}

/// Writes a matrix of vectors and data sets to a file.
pub(crate) fn export_cross_domain(
    matrix: &CrossDomain,
    out: &ExportTarget,
) -> Result<Fact, EngineError> {
    let bytes = if has_ending(out, "json") {
        json(matrix).into_bytes()
    } else if has_ending(out, "md") {
        cross_domain_markdown(matrix).into_bytes()
    } else if has_ending(out, "svg") {
        cross_domain_svg(matrix).into_bytes()
    } else if has_ending(out, "png") {
        png(&cross_domain_svg(matrix)).map_err(EngineError::Figure)?
    } else {
        cross_domain_csv(matrix).into_bytes()
    };
    write_file(out, &bytes, format!("cross-domain matrix of {} vectors", matrix.vectors.len()))
}

/// Writes what a judge said to a file.
pub(crate) fn export_judgement(
    report: &JudgeReport,
    out: &ExportTarget,
) -> Result<Fact, EngineError> {
    let text = if has_ending(out, "json") {
        json(report)
    } else if has_ending(out, "md") {
        judgement_markdown(report)
    } else {
        judgement_csv(report)
    };
    write_file(out, text.as_bytes(), format!("judgement of {} recipes", report.rows.len()))
}

/// The whole file or none.
fn write_file(out: &ExportTarget, bytes: &[u8], summary: String) -> Result<Fact, EngineError> {
    let out = free_path(out)?;
    write_file_atomically(out, |file| {
        let failed = |source| EngineError::Write { path: out.to_owned(), source };
        file.write_all(bytes).map_err(failed)
    })?;
    Ok(Fact::Written { path: out.to_owned(), summary })
}

impl Workspace {
    /// Writes a chat, or the last one spoken in, to a file.
    pub(crate) fn export_chat(
        &self,
        id: Option<Uuid>,
        out: &ExportTarget,
    ) -> Result<Fact, EngineError> {
        let missing = || id.map_or(WorkspaceError::NoChats, |id| WorkspaceError::NoChat { id });
        let chat = self.load_chat(id)?.ok_or_else(missing)?;
        let text = if has_ending(out, "json") { json(&chat) } else { chat_markdown(&chat) };
        self.write_export(out, text.as_bytes(), format!("chat {:?}", chat.title))
    }

    /// Writes the audit log to a file, oldest entry first.
    pub(crate) fn export_audit(&self, out: &ExportTarget) -> Result<Fact, EngineError> {
        let mut entries = self.audit(usize::MAX)?;
        entries.reverse();
        let text = if has_ending(out, "json") { json(&entries) } else { audit_csv(&entries) };
        self.write_export(out, text.as_bytes(), format!("audit log, {} entries", entries.len()))
    }

    /// The whole file or none; that it was written is itself a line in the audit log.
    pub(crate) fn write_export(
        &self,
        out: &ExportTarget,
        bytes: &[u8],
        summary: String,
    ) -> Result<Fact, EngineError> {
        let written = write_file(out, bytes, summary)?;
        self.record_export(&written);
        Ok(written)
    }

    /// A line in the audit log for [`Fact::Written`].
    pub(crate) fn record_export(&self, written: &Fact) {
        let Fact::Written { path, summary } = written else { return };
        if let Err(err) = self.record("export", &format!("{summary} → {}", path.display())) {
            tracing::warn!("the export is not in the audit log: {err}");
        }
    }
}

/// Where to write, unless a file is there that nobody said may go.
pub(crate) fn free_path(out: &ExportTarget) -> Result<&Path, EngineError> {
    if !out.replace && out.path.is_file() {
        return Err(EngineError::WouldReplace { path: out.path.clone() });
    }
    Ok(&out.path)
}

fn has_ending(out: &ExportTarget, ending: &str) -> bool {
    out.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}

fn json(value: &impl Serialize) -> String {
    let Ok(text) = serde_json::to_string_pretty(value) else {
        unreachable!("all keys are strings")
    };
    text + "\n"
}

/// The branch that is shown, each answer under its recipe.
fn chat_markdown(chat: &Chat) -> String {
    let mut text = format!("# {}\n", chat.title);
    if !chat.system.is_empty() {
        push_section(&mut text, "System", &chat.system);
    }
    for message in chat.branch() {
        push_section(&mut text, &heading(message), &message.content);
    }
    text
}

fn push_section(text: &mut String, heading: &str, content: &str) {
    // Writing to a string cannot fail.
    let _infallible = write!(text, "\n## {heading}\n\n{}\n", content.trim_end());
}

fn heading(message: &Message) -> String {
    let who = match message.role {
        Role::System => "System",
        Role::User => "You",
        Role::Assistant => "Model",
    };
    let recipe = message.recipe.as_ref();
    let stamp = recipe.map(|recipe| format!(" · {} · {} · `{recipe}`", recipe.model, recipe.dtype));
    format!("{who}{}{}", stamp.unwrap_or_default(), mark(message))
}

/// Why that is not all that could have been said.
fn mark(message: &Message) -> &'static str {
    match (message.state, message.finish) {
        (MessageState::Partial, _) => " (cut off)",
        (MessageState::Stopped, _) => " (stopped)",
        (MessageState::Complete, Some(FinishReason::Length)) => {
            " (cut: the longest answer was reached)"
        }
        (MessageState::Complete, Some(FinishReason::ContextFull)) => " (cut: the context is full)",
        (MessageState::Complete, _) => "",
    }
}

fn audit_csv(entries: &[AuditEntry]) -> String {
    let mut text = csv_row(["time", "action", "detail"]);
    for AuditEntry { time, action, detail } in entries {
        text.push_str(&csv_row([time, action, detail]));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use meav_protocol::{Dtype, Method, RecipeStamp, Scope, StampTerm};

    use super::*;
    use crate::figures::samples;

    fn recipe() -> RecipeStamp {
        RecipeStamp {
            fingerprint: "blake3:ab12cd".to_owned(),
            base: "blake3:00".to_owned(),
            model: "Tiny".to_owned(),
            dtype: Dtype::Bf16,
            method: Method::default(),
            vectors: vec![StampTerm {
                domain: "medical".to_owned(),
                file: "medical.safetensors".into(),
                fingerprint: "blake3:01".to_owned(),
                coefficient: -0.7,
                scope: Scope::default(),
            }],
        }
    }

    fn chat() -> Chat {
        let question = Message::new(None, Role::User, "Why?");
        let old = Message::new(Some(question.id), Role::Assistant, "Unasked.");
        let mut answer = Message::new(Some(question.id), Role::Assistant, "Because.\n");
        answer.recipe = Some(recipe());
        answer.state = MessageState::Stopped;
        let leaf = Some(answer.id);
        let (title, system) = ("Reasons".to_owned(), "Be brief.".to_owned());
        let messages = vec![question, old, answer];
        Chat { id: Uuid::now_v7(), title, system, messages, leaf }
    }

    #[test]
    fn markdown_shows_the_branch_with_recipes_and_states() {
        assert_eq!(
            chat_markdown(&chat()),
            "# Reasons\n\n## System\n\nBe brief.\n\n## You\n\nWhy?\n\n\
             ## Model · Tiny · bf16 · `#ab12 medical −0.7` (stopped)\n\nBecause.\n"
        );
    }

    #[test]
    fn answers_that_were_cut_say_what_cut_them() {
        let mut answer = Message::new(None, Role::Assistant, "Because");
        answer.finish = Some(FinishReason::Stop);
        assert_eq!(heading(&answer), "Model");
        answer.finish = Some(FinishReason::Length);
        assert_eq!(heading(&answer), "Model (cut: the longest answer was reached)");
        answer.finish = Some(FinishReason::ContextFull);
        assert_eq!(heading(&answer), "Model (cut: the context is full)");
        (answer.state, answer.finish) = (MessageState::Partial, None);
        assert_eq!(heading(&answer), "Model (cut off)");
    }

    #[test]
    fn csv_is_quoted_and_runs_nothing() {
        let entry = |action: &str, detail: &str| AuditEntry {
            time: "2026-11-20T07:00:00.000Z".to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        };
        let csv = audit_csv(&[
            entry("merge", "plain −0.7"),
            entry("export", "chat \"a, b\"\nc"),
            entry("=1+1", " @SUM(A1)"),
        ]);
        assert_eq!(
            csv,
            "time,action,detail\r\n\
             2026-11-20T07:00:00.000Z,merge,plain −0.7\r\n\
             2026-11-20T07:00:00.000Z,export,\"chat \"\"a, b\"\"\nc\"\r\n\
             2026-11-20T07:00:00.000Z,\"'=1+1\",\"' @SUM(A1)\"\r\n"
        );
        for text in ["\t=1", "\rx", "-2+3", "+3-2", "＝1"] {
            assert!(csv_row([text]).starts_with("\"'"), "{text:?}");
        }
    }

    #[test]
    fn sweeps_take_the_form_that_the_ending_names() {
        let folder = tempfile::tempdir().unwrap();
        let target = |name: &str| ExportTarget { path: folder.path().join(name), replace: false };
        let one = [samples::sweep("medical")];
        let two = [one[0].clone(), samples::sweep("legal")];
        let written = |sweeps: &[Sweep], name: &str| {
            let out = target(name);
            let fact = export_sweeps(sweeps, &out).unwrap();
            assert!(matches!(fact, Fact::Written { path, .. } if path == out.path));
            fs::read(&out.path).unwrap()
        };
        let read: Sweep = serde_json::from_slice(&written(&one, "sweep.json")).unwrap();
        assert_eq!(read, one[0]);
        let read: serde_json::Value = serde_json::from_slice(&written(&two, "both.JSON")).unwrap();
        assert_eq!(read["sweeps"].as_array().map(Vec::len), Some(2));
        for (name, start) in [
            ("a.svg", &b"<svg"[..]),
            ("a.png", b"\x89PNG"),
            ("a.md", b"# medical"),
            ("a.csv", b"lambda,"),
            ("a.other", b"lambda,"),
        ] {
            assert!(written(&two, name).starts_with(start), "{name}");
        }
        let again = export_sweeps(&one, &target("a.csv"));
        assert!(matches!(again, Err(EngineError::WouldReplace { .. })));
        assert_eq!(sweeps_summary(&one), "sweep of medical at 5 values of λ");
        assert_eq!(sweeps_summary(&two), "2 sweeps");
    }

    #[test]
    fn matrices_and_judgements_take_the_form_that_the_ending_names() {
        let folder = tempfile::tempdir().unwrap();
        let target = |name: &str| ExportTarget { path: folder.path().join(name), replace: false };
        let matrix = CrossDomain { vectors: Vec::new(), columns: Vec::new(), cells: Vec::new() };
        let report = JudgeReport {
            judge: "Tiny".to_owned(),
            data: "d.jsonl".to_owned(),
            levels: Vec::new(),
            rows: Vec::new(),
            pairs: Vec::new(),
            elapsed_secs: 0.5,
        };
        let starts = |name: &str, start: &[u8]| {
            assert!(fs::read(target(name).path).unwrap().starts_with(start), "{name}");
        };
        for (name, start) in [
            ("m.csv", &b"vector,"[..]),
            ("m.json", b"{"),
            ("m.md", b"Change"),
            ("m.svg", b"<svg"),
            ("m.png", b"\x89PNG"),
        ] {
            export_cross_domain(&matrix, &target(name)).unwrap();
            starts(name, start);
        }
        for (name, start) in [("j.csv", &b"recipe,"[..]), ("j.json", b"{"), ("j.md", b"Answers")] {
            export_judgement(&report, &target(name)).unwrap();
            starts(name, start);
        }
        let read: JudgeReport =
            serde_json::from_slice(&fs::read(target("j.json").path).unwrap()).unwrap();
        assert_eq!(read, report);
    }

    #[test]
    fn exports_replace_files_and_are_audited() {
        let folder = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::open(folder.path()).unwrap();
        let target = |name: &str| ExportTarget { path: folder.path().join(name), replace: true };
        let out = target("chat.md");
        assert!(workspace.export_chat(None, &out).is_err() && !out.path.exists());
        fs::write(&out.path, "old").unwrap();
        let chat = chat();
        let branch: Vec<Message> = chat.branch().into_iter().cloned().collect();
        workspace.save_chat(chat.id, &chat.system, &branch).unwrap();
        workspace.export_chat(None, &out).unwrap();
        assert!(fs::read_to_string(&out.path).unwrap().contains("Because."));
        let out = target("chat.json");
        workspace.export_chat(Some(chat.id), &out).unwrap();
        let read: Chat = serde_json::from_slice(&fs::read(&out.path).unwrap()).unwrap();
        assert_eq!(read.messages, branch);
        let out = target("audit.JSON");
        workspace.export_audit(&out).unwrap();
        let read: Vec<AuditEntry> = serde_json::from_slice(&fs::read(&out.path).unwrap()).unwrap();
        assert_eq!(read.len(), 2);
        assert!(read[0].detail.starts_with("chat \"Why?\" → "), "{read:?}");
        assert_eq!(workspace.audit(1).unwrap()[0].action, "export");
    }
}
