use meav_protocol::UserError;
use uuid::Uuid;

use super::Dialog;
use crate::action::Action;

/// Seconds that a message stays, where it is only to be read.
const SECS_SHOWN: f64 = 6.0;

/// Seconds that a deed can be undone.
const SECS_TO_UNDO: f64 = 12.0;

/// A message over the window's lower edge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    /// Its name.
    pub id: u64,
    /// What it says.
    pub body: NoticeBody,
    /// When it goes by itself; errors stay.
    pub(crate) until: Option<f64>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NoticeBody {
    /// Something that is good to know.
    Info(String),
    /// Something that failed, whose control is not in sight.
    Error(UserError),
    /// A job that failed after its dialog was closed.
    Failed {
        /// Why.
        err: UserError,
        /// The dialog as it was filled in, to begin again.
        dialog: Box<Dialog>,
    },
    /// Something that can be done now.
    Offer {
        /// What has made it possible.
        text: String,
        /// What the button says.
        label: &'static str,
        /// What it does.
        action: Box<Action>,
    },
    /// A chat that was deleted, and can be brought back.
    Deleted {
        /// Which.
        chat: Uuid,
        /// What it was called.
        title: String,
    },
}

/// The messages, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    shown: Vec<Notice>,
    last: u64,
}

/// Older ones make room: a wall of messages is read by nobody.
const MOST_SHOWN: usize = 4;

impl Notices {
    pub(crate) fn info(&mut self, text: impl Into<String>, now: f64) {
        self.push(NoticeBody::Info(text.into()), Some(now + SECS_SHOWN));
    }

    pub(crate) fn error(&mut self, err: UserError) {
        self.push(NoticeBody::Error(err), None);
    }

    pub(crate) fn failed(&mut self, err: UserError, dialog: Dialog) {
        self.push(NoticeBody::Failed { err, dialog: Box::new(dialog) }, None);
    }

    pub(crate) fn offer(&mut self, text: String, label: &'static str, action: Action) {
        self.push(NoticeBody::Offer { text, label, action: Box::new(action) }, None);
    }

    pub(crate) fn deleted(&mut self, chat: Uuid, title: String, now: f64) {
        self.push(NoticeBody::Deleted { chat, title }, Some(now + SECS_TO_UNDO));
    }

    fn push(&mut self, body: NoticeBody, until: Option<f64>) {
        self.shown.retain(|notice| notice.body != body);
        if self.shown.len() == MOST_SHOWN {
            self.shown.remove(0);
        }
        self.last += 1;
        self.shown.push(Notice { id: self.last, body, until });
    }

    pub(crate) fn take(&mut self, id: u64) -> Option<Notice> {
        let index = self.shown.iter().position(|notice| notice.id == id)?;
        Some(self.shown.remove(index))
    }

    /// A deletion that was undone elsewhere.
    pub(crate) fn forget_deleted(&mut self, undone: Uuid) {
        let is_it =
            |body: &NoticeBody| matches!(body, NoticeBody::Deleted { chat, .. } if *chat == undone);
        self.shown.retain(|notice| !is_it(&notice.body));
    }

    pub(crate) fn expire(&mut self, now: f64) {
        self.shown.retain(|notice| notice.until.is_none_or(|until| now < until));
    }

    pub(crate) fn next_end(&self) -> Option<f64> {
        self.shown.iter().filter_map(|notice| notice.until).min_by(f64::total_cmp)
    }

    pub(crate) fn shown(&self) -> &[Notice] {
        &self.shown
    }
}
