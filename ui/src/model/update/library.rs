use meav_protocol::JobSpec;
use uuid::Uuid;

use crate::action::LibraryAction;
use crate::effect::Effect;
use crate::model::jobs::Purpose;
use crate::model::library::MOST_HITS;
use crate::model::{Job, Model, NoticeBody};
use crate::settings::Screen;

impl Model {
    pub(super) fn library(&mut self, action: LibraryAction, now: f64) -> Vec<Effect> {
        let (purpose, spec) = match action {
            LibraryAction::Open(chat) => return self.open_chat(chat, None, now),
            LibraryAction::Reveal { chat, message } => return self.open_chat(chat, message, now),
            LibraryAction::BeginRename(id) => {
                let title = self.library.title(id).unwrap_or_default().to_owned();
                self.library.renaming = Some((id, title));
                return Vec::new();
            }
            LibraryAction::SetRename(text) => {
                if let Some((_, title)) = &mut self.library.renaming {
                    *title = text;
                }
                return Vec::new();
            }
            LibraryAction::CancelRename => {
                self.library.renaming = None;
                return Vec::new();
            }
            LibraryAction::SubmitRename => match self.library.renaming.take() {
                Some((id, title)) if !title.trim().is_empty() => {
                    let title = title.trim().to_owned();
                    if self.conversation.chat.id == id {
                        self.conversation.chat.title.clone_from(&title);
                    }
                    (Purpose::Chats, JobSpec::RenameChat { id, title })
                }
                _ => return Vec::new(),
            },
            LibraryAction::Delete(id) => return self.delete_chat(id, now),
            LibraryAction::SetSearch(text) => return self.search(text, now),
        };
        vec![self.start(purpose, spec, now)]
    }

    pub(super) fn open_chat(&mut self, id: Uuid, reveal: Option<Uuid>, now: f64) -> Vec<Effect> {
        self.settings.screen = Screen::Chat;
        let mut effects = self.call_off_loads();
        if id == self.conversation.chat.id && reveal.is_none() {
            return effects;
        }
        let purpose = Purpose::LoadChat { reveal };
        effects.push(self.start(purpose, JobSpec::LoadChat { id: Some(id) }, now));
        effects
    }

    /// A chat that was to be shown is wanted no more: it would take the place of what is.
    pub(super) fn call_off_loads(&mut self) -> Vec<Effect> {
        let is_load = |job: &&Job| matches!(job.purpose, Purpose::LoadChat { .. });
        let wanted = |job: &&Job| !job.is_cancelling;
        let loads: Vec<_> =
            self.jobs.iter().filter(is_load).filter(wanted).map(|it| it.id).collect();
        loads.into_iter().filter_map(|id| self.jobs.cancel(id)).collect()
    }

    pub(super) fn delete_chat(&mut self, id: Uuid, now: f64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(answer) = &self.conversation.answer
            && answer.chat == id
        {
            effects.extend(self.jobs.cancel(answer.job));
        }
        let title = self.library.title(id).unwrap_or("Chat").to_owned();
        self.notices.deleted(id, title, now);
        let was_open = self.conversation.chat.id == id;
        self.library.deleted.push((id, was_open));
        if was_open {
            self.conversation.begin();
            effects.extend(self.call_off_loads());
        }
        effects.push(self.start(Purpose::Chats, JobSpec::DeleteChat { id }, now));
        effects
    }

    pub(super) fn undo(&mut self, notice: u64, now: f64) -> Vec<Effect> {
        match self.notices.take(notice).map(|notice| notice.body) {
            Some(NoticeBody::Deleted { chat, .. }) => self.restore(chat, now),
            _ => Vec::new(),
        }
    }

    /// Undoes the last deletion of this session that has not been undone.
    pub(super) fn undo_last(&mut self, now: f64) -> Vec<Effect> {
        let Some((chat, _)) = self.library.deleted.last() else {
            self.notices.info("No chat was deleted since the start", now);
            return Vec::new();
        };
        self.restore(*chat, now)
    }

    fn restore(&mut self, chat: Uuid, now: f64) -> Vec<Effect> {
        self.notices.forget_deleted(chat);
        let was_open = self
            .library
            .deleted
            .extract_if(.., |(id, _)| *id == chat)
            .any(|(_, was_open)| was_open);
        let restored = self.start(Purpose::Chats, JobSpec::RestoreChat { id: chat }, now);
        let mut effects = vec![restored];
        if was_open {
            effects.extend(self.open_chat(chat, None, now));
        }
        effects
    }

    pub(super) fn search(&mut self, text: String, now: f64) -> Vec<Effect> {
        let words = text.trim().to_owned();
        self.library.search = text;
        let older = self.library.search_job.take();
        let mut effects: Vec<_> = older.and_then(|job| self.jobs.cancel(job)).into_iter().collect();
        if words.is_empty() {
            self.library.found = None;
            return effects;
        }
        let spec = JobSpec::SearchChats { text: words.clone(), limit: MOST_HITS };
        let (job, effect) = self.jobs.start(Purpose::Search(words), spec, now);
        self.library.search_job = Some(job);
        effects.push(effect);
        effects
    }
}
