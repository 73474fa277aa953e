//! What outlives a process: chats, recipes, sweeps, training runs, the audit log, known fingerprints.

mod chats;
mod database;
mod export;
mod file_stamp;
mod librarian;
mod migrations;
mod search;
mod sweeps;
mod trainings;

pub(crate) use database::{Workspace, WorkspaceError};
pub(crate) use export::free_path;
pub(crate) use file_stamp::{FileStamp, absolute};
pub(crate) use librarian::Librarian;
pub(crate) use sweeps::AnswersKey;
pub(crate) use trainings::ReferenceKey;
#[cfg(test)]
pub(crate) use trainings::tests::training;
