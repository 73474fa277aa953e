//! What outlives a process: chats, recipes, sweeps, the audit log, known fingerprints.

mod chats;
mod database;
mod export;
mod file_stamp;
mod librarian;
mod migrations;
mod search;
mod sweeps;

pub(crate) use database::{Workspace, WorkspaceError};
pub(crate) use export::free_path;
pub(crate) use file_stamp::{FileStamp, absolute};
pub(crate) use librarian::Librarian;
pub(crate) use sweeps::AnswersKey;
