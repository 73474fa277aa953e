use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread;

use meav_eval::cross_domain;
use meav_eval::judge::{Address, ApiKey};
use meav_protocol::{Event, Fact, JobId, JobSpec, RunState, Secret};
use uuid::Uuid;

use super::database::Workspace;
use super::export::{export_comparison, export_cross_domain, export_judgement, export_sweeps};
use crate::error::EngineError;
use crate::folders::Folders;
use crate::outbox::Outbox;
use crate::secrets::{Secrets, SecretsError};
use crate::training::is_in_use;
use crate::words::into_outcome;
use crate::worker::guard;

/// Answers what needs nothing but the database, also while the worker is busy.
pub(crate) struct Librarian {
    folders: Folders,
    outbox: Outbox,
    log: Option<PathBuf>,
}

impl Librarian {
    pub(crate) fn new(folders: Folders, outbox: Outbox, log: Option<PathBuf>) -> Self {
        Self { folders, outbox, log }
    }

    /// Whether the job is one of its own, and not one of the worker's.
    pub(crate) fn answers(spec: &JobSpec) -> bool {
        match spec {
            JobSpec::Prepare(_)
            | JobSpec::Chat(_)
            | JobSpec::Describe { .. }
            | JobSpec::FetchDemo
            | JobSpec::SeedModel(_)
            | JobSpec::ImportVector(_)
            | JobSpec::ExtractVector(_)
            | JobSpec::CompressVector(_)
            | JobSpec::SeparateVector(_)
            | JobSpec::CompareVectors { .. }
            | JobSpec::Merge(_)
            | JobSpec::SaveRecipe { .. }
            | JobSpec::OpenRecipe { .. }
            | JobSpec::PlanMemory(_)
            | JobSpec::Score(_)
            | JobSpec::Sweep(_)
            | JobSpec::Judge(_)
            | JobSpec::Train(_)
            | JobSpec::EstimateTraining(_)
            | JobSpec::WriteCalibration { .. }
            | JobSpec::InspectData { .. }
            | JobSpec::ReadRecords { .. }
            | JobSpec::SplitData(_)
            | JobSpec::FindLeakage { .. }
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
            | JobSpec::ListSweeps
            | JobSpec::LoadSweep { .. }
            | JobSpec::DeleteSweep { .. }
            | JobSpec::ExportSweeps { .. }
            | JobSpec::CrossDomain { .. }
            | JobSpec::ExportCrossDomain { .. }
            | JobSpec::ExportJudgement { .. }
            | JobSpec::ListTrainings
            | JobSpec::LoadTraining { .. }
            | JobSpec::DeleteTraining { .. }
            | JobSpec::ListDemoData
            | JobSpec::KeepKey { .. }
            | JobSpec::FindKey { .. }
            | JobSpec::ListAudit { .. }
            | JobSpec::ExportAudit { .. } => true,
        }
    }

    pub(crate) fn run(self, requests: &Receiver<(JobId, JobSpec)>) {
        for (job_id, spec) in requests {
            if let JobSpec::KeepKey { .. } | JobSpec::FindKey { .. } = spec {
                self.ask_secret_store(job_id, spec);
                continue;
            }
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

    /// On a thread of its own: the store may be waiting for the user's password.
    fn ask_secret_store(&self, job_id: JobId, spec: JobSpec) {
        let (outbox, log) = (self.outbox.clone(), self.log.clone());
        let answer = move || {
            let told = guard(log.as_deref(), || secret(spec));
            let told = told.map(|fact| outbox.fact(job_id, fact));
            outbox.send(Event::Finished { job_id, outcome: into_outcome(told) });
        };
        let started = thread::Builder::new().name("key".to_owned()).spawn(answer);
        if let Err(source) = started {
            let err = EngineError::from(SecretsError::Thread { source });
            self.outbox.send(Event::Finished { job_id, outcome: into_outcome(Err(err)) });
        }
    }

    fn answer(&self, spec: &JobSpec) -> Result<Option<Fact>, EngineError> {
        if let Some(written) = export_of_request(spec) {
            let written = written?;
            self.record_export(&written);
            return Ok(Some(written));
        }
        match spec {
            JobSpec::ListDemoData => return Ok(Some(Fact::DemoData(self.folders.demo_data()))),
            JobSpec::CrossDomain { sweeps } => {
                return Ok(Some(Fact::CrossDomain(cross_domain(sweeps))));
            }
            _ => {}
        }
        let workspace = Workspace::open(&self.folders.workspace)?;
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
            JobSpec::ListSweeps => workspace.list_sweeps().map(Fact::Sweeps)?,
            JobSpec::LoadSweep { run } => Fact::Sweep(Box::new(workspace.load_sweep(*run)?)),
            JobSpec::DeleteSweep { run } => {
                workspace.delete_sweep(*run)?;
                workspace.list_sweeps().map(Fact::Sweeps)?
            }
            JobSpec::ListTrainings => workspace.list_trainings().map(Fact::Trainings)?,
            JobSpec::LoadTraining { run } => load_training(&workspace, *run)?,
            JobSpec::DeleteTraining { run } => delete_training(&workspace, *run)?,
            JobSpec::ListAudit { limit } => workspace.audit(*limit).map(Fact::Audit)?,
            JobSpec::ExportAudit { out } => workspace.export_audit(out)?,
            _ => unreachable!("control gives the others to the worker"),
        };
        Ok(Some(fact))
    }

    /// The workspace may as well be unusable.
    fn record_export(&self, written: &Fact) {
        match Workspace::open(&self.folders.workspace) {
            Ok(workspace) => workspace.record_export(written),
            Err(err) => tracing::warn!("the export is not in the audit log: {err}"),
        }
    }
}

/// A run as it was kept; one whose engine was killed is held by nobody any more.
fn load_training(workspace: &Workspace, run: Uuid) -> Result<Fact, EngineError> {
    let mut run = workspace.load_training(run)?;
    run.is_paused &= run.spec.out.as_deref().is_some_and(is_in_use);
    // A half-trained one is another job's, or left behind.
    run.vector = run.vector.filter(|_| run.state == RunState::Finished);
    Ok(Fact::Train(Box::new(run)))
}

/// Forgets a run, unless an engine is at it.
fn delete_training(workspace: &Workspace, run: Uuid) -> Result<Fact, EngineError> {
    let folder = workspace.load_training(run)?.spec.out;
    if let Some(folder) = folder.filter(|folder| is_in_use(folder)) {
        return Err(EngineError::RunGoesOn { path: folder });
    }
    workspace.delete_training(run)?;
    Ok(workspace.list_trainings().map(Fact::Trainings)?)
}

/// Writes what the request itself holds; `None` if it is another request.
fn export_of_request(spec: &JobSpec) -> Option<Result<Fact, EngineError>> {
    match spec {
        JobSpec::ExportComparison { comparison, out } => Some(export_comparison(comparison, out)),
        JobSpec::ExportSweeps { sweeps, out } => Some(export_sweeps(sweeps, out)),
        JobSpec::ExportCrossDomain { matrix, out } => Some(export_cross_domain(matrix, out)),
        JobSpec::ExportJudgement { report, out } => Some(export_judgement(report, out)),
        _ => None,
    }
}

/// Keeps, forgets or looks for the key of a judge.
fn secret(spec: JobSpec) -> Result<Fact, EngineError> {
    let secrets = Secrets::of_desktop();
    let (address, is_kept) = match spec {
        JobSpec::KeepKey { address, key: Some(Secret(key)) } => {
            secrets.keep(&Address::parse(&address)?, ApiKey::new(&key)?)?;
            (address, true)
        }
        JobSpec::KeepKey { address, key: None } => {
            secrets.forget(&Address::parse(&address)?)?;
            (address, false)
        }
        JobSpec::FindKey { address } => {
            let is_kept = secrets.key_for(&Address::parse(&address)?)?.is_some();
            (address, is_kept)
        }
        _ => unreachable!("nothing else is about keys"),
    };
    Ok(Fact::Key { address, is_kept })
}
