use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use meav_protocol::{Event, Fact, JobId, JobSpec};

use super::database::{Workspace, WorkspaceError};
use crate::error::EngineError;
use crate::outbox::Outbox;
use crate::words::into_outcome;

/// Answers what can be read from the database, also while the worker is busy.
pub(crate) struct Librarian {
    folder: PathBuf,
    outbox: Outbox,
}

impl Librarian {
    pub(crate) fn new(folder: &Path, outbox: Outbox) -> Self {
        Self { folder: folder.to_owned(), outbox }
    }

    pub(crate) fn run(self, requests: &Receiver<(JobId, JobSpec)>) {
        for (job_id, spec) in requests {
            let result = self.answer(&spec).map_err(EngineError::from);
            let outcome = into_outcome(result.map(|fact| self.outbox.fact(job_id, fact)));
            self.outbox.send(Event::Finished { job_id, outcome });
        }
    }

    fn answer(&self, spec: &JobSpec) -> Result<Fact, WorkspaceError> {
        let workspace = Workspace::open(&self.folder)?;
        match spec {
            JobSpec::LoadChat { id } => workspace.load_chat(*id).map(Fact::Chat),
            JobSpec::ListChats => workspace.list_chats().map(Fact::Chats),
            JobSpec::ListAudit { limit } => workspace.audit(*limit).map(Fact::Audit),
            _ => unreachable!("control gives other jobs to the worker"),
        }
    }
}
