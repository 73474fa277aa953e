use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use meav_protocol::{Comparison, Event, ExportTarget, Fact, JobId, JobSpec};

use super::database::Workspace;
use super::export::export_comparison;
use crate::error::EngineError;
use crate::outbox::Outbox;
use crate::words::into_outcome;
use crate::worker::guard;

/// Answers what needs nothing but the database, also while the worker is busy.
pub(crate) struct Librarian {
    folder: PathBuf,
    outbox: Outbox,
    log: Option<PathBuf>,
}

impl Librarian {
    pub(crate) fn new(folder: &Path, outbox: Outbox, log: Option<PathBuf>) -> Self {
        Self { folder: folder.to_owned(), outbox, log }
    }

    /// Whether the job is one of its own, and not one of the worker's.
    pub(crate) fn answers(spec: &JobSpec) -> bool {
        match spec {
            JobSpec::Prepare(_)
            | JobSpec::Chat(_)
            | JobSpec::Describe { .. }
            | JobSpec::FetchDemo
            | JobSpec::ImportVector(_)
            | JobSpec::ExtractVector(_)
            | JobSpec::CompressVector(_)
            | JobSpec::SeparateVector(_)
            | JobSpec::CompareVectors { .. }
            | JobSpec::Merge(_)
            | JobSpec::SaveRecipe { .. }
            | JobSpec::OpenRecipe { .. }
            | JobSpec::PlanMemory(_)
            | JobSpec::Bench(_) => false,
            JobSpec::LoadChat { .. }
            | JobSpec::ListChats
            | JobSpec::RenameChat { .. }
            | JobSpec::DeleteChat { .. }
            | JobSpec::RestoreChat { .. }
            | JobSpec::SetBranch { .. }
            | JobSpec::SearchChats { .. }
            | JobSpec::ExportChat { .. }
            | JobSpec::ExportComparison { .. }
            | JobSpec::ListAudit { .. }
            | JobSpec::ExportAudit { .. } => true,
        }
    }

    pub(crate) fn run(self, requests: &Receiver<(JobId, JobSpec)>) {
        for (job_id, spec) in requests {
            let found = guard(self.log.as_deref(), || self.answer(&spec));
            if let Err(err) = &found {
                tracing::info!(?job_id, "{err:?}");
            }
            let told = found.map(|fact| {
                if let Some(fact) = fact {
                    self.outbox.fact(job_id, fact);
                }
            });
            self.outbox.send(Event::Finished { job_id, outcome: into_outcome(told) });
        }
    }

    fn answer(&self, spec: &JobSpec) -> Result<Option<Fact>, EngineError> {
        if let JobSpec::ExportComparison { comparison, out } = spec {
            return self.export_comparison(comparison, out).map(Some);
        }
        let workspace = Workspace::open(&self.folder)?;
        let chats = || workspace.list_chats().map(Fact::Chats);
        let fact = match spec {
            JobSpec::LoadChat { id } => workspace.load_chat(*id).map(Fact::Chat)?,
            JobSpec::ListChats => chats()?,
            JobSpec::RenameChat { id, title } => {
                workspace.rename_chat(*id, title).and_then(|()| chats())?
            }
            JobSpec::DeleteChat { id } => workspace.delete_chat(*id).and_then(|()| chats())?,
            JobSpec::RestoreChat { id } => workspace.restore_chat(*id).and_then(|()| chats())?,
            JobSpec::SetBranch { chat, leaf } => {
                workspace.set_branch(*chat, *leaf)?;
                return Ok(None);
            }
            JobSpec::SearchChats { text, limit } => {
                workspace.search_chats(text, *limit).map(Fact::Found)?
            }
            JobSpec::ExportChat { id, out } => workspace.export_chat(*id, out)?,
            JobSpec::ListAudit { limit } => workspace.audit(*limit).map(Fact::Audit)?,
            JobSpec::ExportAudit { out } => workspace.export_audit(out)?,
            _ => unreachable!("control gives the others to the worker"),
        };
        Ok(Some(fact))
    }

    /// Nothing of it comes from the workspace, which may then as well be unusable.
    fn export_comparison(
        &self,
        comparison: &Comparison,
        out: &ExportTarget,
    ) -> Result<Fact, EngineError> {
        let written = export_comparison(comparison, out)?;
        match Workspace::open(&self.folder) {
            Ok(workspace) => workspace.record_export(&written),
            Err(err) => tracing::warn!("the export is not in the audit log: {err}"),
        }
        Ok(written)
    }
}
